"""Methods that find their step size, or need no schedule: from the loss, from distances, from averages."""

from __future__ import annotations

from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adam import Moments
from optbench.optimizers.adapter import Rate, Standard, decay, declared, flag, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.protocol import Shapes, size
from optbench.ranges import is_off


def factor() -> Any:
    """The learning rate of a method that finds its own: a factor, swept over two decades to each side of 1."""
    return hyper(
        1.0, "factor of the step size that the method finds", bounds="(0, inf)", lane=True, sweep=(1e-2, 1e2)
    )


@declared(source="arXiv:2002.10542; optax.polyak_sgd")
class PolyakSGD(Standard, asks=True):
    """Polyak's step, which needs the loss and its least value.

        theta <- theta - min(learning_rate, (f - f_min) / (|g|^2 + eps)) g

    The learning rate is a bound on the step, and is swept; a schedule scales the step.
    """

    learning_rate: float = step_size(1.0, 1e-2)
    f_min: float = hyper(0.0, "least value of the loss", bounds="(-inf, inf)")
    eps: float = small(0.0, "added to the squared norm")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.polyak_sgd; its learning rate is no schedule, so the factor is what is left of `rate`."""
        most = self.learning_rate
        return optax.polyak_sgd(most, lambda count: rate(count) / most, self.f_min, self.eps)


@declared(source="arXiv:2305.07583; optax.contrib.momo")
class Momo(Standard, arrays=1, asks=True, proportional=False):
    """Momentum with a step from a model of the loss, bounded below by `f_min`.

        theta <- theta - min(learning_rate, max(f - f_min - c + <m, theta>, 0) / |m|^2) m

    m, f and c are running means of g, of the loss and of <g, theta>.
    The learning rate is a bound on the step, and is swept; a schedule moves the bound.
    """

    learning_rate: float = step_size(1.0, 1e-2)
    b1: float = decay(0.9, "the means", MOMENTUM)
    f_min: float = hyper(0.0, "lower bound of the loss", bounds="(-inf, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.contrib.momo(rate, self.b1, self.f_min, self.weight_decay)


@declared(source="arXiv:2305.07583; optax.contrib.momo_adam")
class MomoAdam(Moments, asks=True, proportional=False):
    """Momo in Adam's norm.

        D = eps + sqrt(v / (1 - b2^t));  a = 1 - b1^t
        theta <- theta - min(learning_rate / a, max(f - a f_min - c + <m, theta>, 0) / <m, m / D>) m / D

    m, v, f and c are running means of g, of g^2, of the loss and of <g, theta>.
    The learning rate is a bound on the step, and is swept; a schedule moves the bound.
    In float16 eps is 0, and an entry without gradient 0 / 0: keep such parameters in float32.
    For real parameters: the square of a complex gradient would be g^2, not |g|^2.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    b1: float = decay(0.9, "the means", MOMENTUM)
    f_min: float = hyper(0.0, "lower bound of the loss", bounds="(-inf, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        means = (self.b1, self.b2, self.eps)
        return optax.contrib.momo_adam(rate, *means, self.f_min, self.weight_decay)


@declared(source="arXiv:2302.12022; optax.contrib.dog")
class DoG(Standard, name="dog", arrays=1, finds_step=True):
    """Distance over gradients: the step is how far one has come over the root of the gradients' squares.

        r = max |theta - theta_0|        over the steps so far, at least `first` (1 + |theta_0|)
        theta <- theta - learning_rate r / sqrt(sum |g|^2 + eps) g

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others.
    """

    learning_rate: float = factor()
    first: float = hyper(1e-6, "first distance, relative to the parameters", bounds="(0, inf)")
    eps: float = small(1e-8, "added to the sum of squares")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.contrib.dog(rate, ("heuristic", self.first), self.eps)


@declared(source="arXiv:2305.16284; optax.contrib.dowg")
class DoWG(Standard, name="dowg", optax="contrib.dowg", arrays=1, finds_step=True):
    """Distance over weighted gradients: DoG that weighs each gradient by the distance at its time.

        r2 = max |theta - theta_0|^2;  w <- w + r2 |g|^2        the maximum is over the steps so far, at least eps
        theta <- theta - learning_rate r2 / (sqrt(w) + eps) g

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others.
    """

    learning_rate: float = factor()
    eps: float = hyper(1e-4, "first squared distance, and added to the root", bounds="(0, inf)")


@declared(source="arXiv:2306.06101; prodigyopt 1.1.2")
class Prodigy(Leafwise, arrays=4, finds_step=True):
    """Adam with a step size that grows with a lower bound of the distance to the solution.

        r = learning_rate d;  N <- b3 N + d / first r <g, theta_0 - theta>;  S <- b3 S + d / first r g
        m <- b1 m + (1 - b1) d g;  v <- b2 v + (1 - b2) (d g)^2
        d <- max(d, d_coef N / |S|_1)
        theta <- theta - r (m / (sqrt(v) + d eps) + weight_decay theta)

    The step takes the r of before. It finds its step size: the learning rate is a factor of it, 1 as its authors
    advise; it is swept, so that the method has as many trials as the others. `growth_rate` bounds how much d grows in
    a step after its first rise. Nothing moves before the first gradient that is not 0. `optax.contrib.prodigy`
    corrects the means' bias, which here as in prodigyopt is `use_bias_correction`.
    """

    learning_rate: float = factor()
    b1: float = decay(0.9, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.999, "the mean of squares")
    b3: float | None = hyper(None, "decay of the sums; None: sqrt(b2)", bounds="[0, 1)")
    eps: float = small(1e-8)
    first: float = hyper(1e-6, "first estimate of the distance", bounds="(0, inf)")
    d_coef: float = hyper(1.0, "factor of the estimate", bounds="(0, inf)")
    growth_rate: float | None = hyper(None, "largest growth of d in a step; None: any", bounds="[1, inf)")
    use_bias_correction: bool = flag(False, "correct the means' bias")
    safeguard_warmup: bool = flag(False, "leave the learning rate out of S, for schedules with a warmup")
    weight_decay: float = weight_decay()
    decouple: bool = flag(True, "decoupled weight decay")

    def share(self, xp: Any) -> State:
        return {"d": self.first, "most": self.first, "N": 0.0, "last": self.first, "moves": False}

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {"m": xp.zeros(p), "v": xp.zeros(p), "S": xp.zeros(p), "p0": xp.copy(p)}

    def rate_of(self, xp: Any, d: Any, at: At) -> Any:
        corrected = 1.0
        if self.use_bias_correction:
            corrected = xp.unbias(self.b2, at.t) ** 0.5 / xp.unbias(self.b1, at.t)
        return d * at.lr * corrected

    def decays(self) -> float:
        return self.b2**0.5 if self.b3 is None else self.b3

    def seen(self, g: Any, p: Any) -> Any:
        return g if self.decouple else g + self.weight_decay * p

    def gather(self, xp: Any, g: Any, p: Any, s: State, at: At) -> tuple[Any, ...]:
        g, d = self.seen(g, p), at.shared["d"]
        r = self.rate_of(xp, d, at)
        s["m"], s["v"] = xp.ema(s["m"], d * g, self.b1), xp.ema(s["v"], (d * g) ** 2, self.b2)
        weight = d / self.first
        s["S"] = self.decays() * s["S"] + weight * (d if self.safeguard_warmup else r) * g
        return weight * r * xp.total(g * (s["p0"] - p)), xp.total(abs(s["S"]))

    def agree(self, xp: Any, sums: tuple[Any, ...], at: At) -> State:
        old, (inner, size) = at.shared, sums
        moves = size != 0  # also where it is no number, so that a NaN shows
        N = xp.where(moves, self.decays() * old["N"] + inner, 0 * inner + old["N"])
        found = xp.where(moves, self.d_coef * N / xp.where(moves, size, 1 + 0 * size), 0 * size)
        most = xp.at_least(found, old["most"])
        d = most
        if self.growth_rate is not None:
            risen = xp.where(old["d"] == self.first, xp.at_least(found, old["d"]), 0 * found + old["d"])
            d = xp.at_most(risen * self.growth_rate, most)
        return {"d": d, "most": most, "N": N, "last": old["d"], "moves": moves}

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        d, r = at.shared["d"], self.rate_of(xp, at.shared["last"], at)
        m = d * self.seen(g, p) if is_off(self.b1) else s["m"]
        u = m / (s["v"] ** 0.5 + d * self.eps) + (self.weight_decay * p if self.decouple else 0)
        return xp.where(at.shared["moves"], xp.cast(-r * u, p.dtype), xp.zeros(p))


@declared(source="arXiv:2301.07733; optax.contrib.dadapt_adamw")
class DAdaptAdamW(Moments, name="dadapt_adamw", arrays=3, finds_step=True, proportional=False):
    """AdamW with D-Adaptation's lower bound of the distance as its step size.

        d <- max(d, r / |s|_1)        s: a decaying sum of d g; r: one of d <g, s / sqrt(v)>
        theta <- theta - learning_rate d (u + weight_decay theta)        u: Adam's step

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others. A schedule also weighs the sums. Adam's bias corrections are on and weight
    decay is decoupled, as in optax; DAdaptAdam of the package dadaptation has neither by default.
    """

    learning_rate: float = factor()
    first: float = hyper(1e-6, "first estimate of the distance", bounds="(0, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import from_the_first_gradient

        options = (self.eps, self.first, self.weight_decay)
        return from_the_first_gradient(optax.contrib.dadapt_adamw(rate, (self.b1, self.b2), *options))


@declared(source="arXiv:2101.11075; optax.contrib.madgrad")
class Madgrad(Standard, arrays=3, proportional=False):
    """Dual averaging with the cube root of the squares' sum, and momentum towards it.

        l = (learning_rate + eps) sqrt(t);  s <- s + l g;  v <- v + l g^2;  z = theta_0 - s / (cbrt(v) + eps)
        theta <- momentum theta + (1 - momentum) z

    Gradients are weighted when they come, so a schedule also weighs them against each other.
    For real parameters: complex numbers have no cube root here.
    """

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = decay(0.9, "the way to the dual average", MOMENTUM)
    eps: float = hyper(1e-6, "added to the learning rate and the root", bounds="(0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import madgrad

        return madgrad(rate, self.momentum, eps=self.eps)


def portion(xp: Any, total: Any, weight: Any) -> tuple[Any, Any]:
    """The sum of weights with a new one, and the share that this has; 0 of 0."""
    total = total + weight
    return total, weight / xp.where(total > 0, total, total + 1)


def averaging() -> Any:
    said = "weight of the average where gradients are taken"
    return hyper(0.9, said, bounds="(0, 1)", lane=True, search=MOMENTUM)


class ScheduleFree(Leafwise, elementwise=True, averages=True, proportional=False):
    """What the schedule-free methods share: z descends, x averages it, y between them is trained."""

    b1: float
    r: float
    weight_lr_power: float
    weight_decay: float

    def share(self, xp: Any) -> State:
        return {"most": 0.0, "sum": 0.0, "part": 0.0}

    def agree(self, xp: Any, sums: tuple[Any, ...], at: At) -> State:
        most = xp.at_least(0.0 * at.shared["most"] + at.lr, at.shared["most"])
        weight = xp.number(at.t) ** self.r * most**self.weight_lr_power
        total, part = portion(xp, at.shared["sum"], weight)
        return {"most": most, "sum": total, "part": part}

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        return {"z": xp.copy(p)}

    def direction(self, xp: Any, g: Any, s: State, at: At) -> Any:
        return g

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        u = self.direction(xp, g, s, at) + self.weight_decay * p
        z, part = s["z"], at.shared["part"]
        s["z"] = z - at.lr * u
        return part * (z - p) + at.lr * (self.b1 * (1 - part) - 1) * u

    def evaluated(self, xp: Any, p: Any, s: State) -> Any:
        return (p - (1 - self.b1) * s["z"]) / self.b1


@declared(source="arXiv:2405.15682; github.com/facebookresearch/schedule_free 70785b5")
class ScheduleFreeSGD(ScheduleFree, arrays=1):
    """Descent without a schedule: gradients are taken between a fast sequence and its average.

        y = b1 x + (1 - b1) z;  z <- z - learning_rate (g(y) + weight_decay y);  x <- (1 - c) x + c z
        c = w_t / sum w;  w_t = t^r        times the largest learning rate so far to the power `weight_lr_power`

    y is trained; the average x is what is evaluated.
    """

    learning_rate: float = step_size(0.1, 3e-3)
    b1: float = averaging()
    r: float = hyper(0.0, "power of the step's number in the weights of the average", bounds="[0, inf)")
    weight_lr_power: float = hyper(2.0, "power of the learning rate there", bounds="[0, inf)")
    weight_decay: float = weight_decay(0.0, "weight decay at y")


@declared(source="arXiv:2405.15682; github.com/facebookresearch/schedule_free 70785b5")
class ScheduleFreeAdamW(ScheduleFree, name="schedule_free_adamw", arrays=2):
    """AdamW without a schedule: RMSprop's steps in the place of descent's.

        y = b1 x + (1 - b1) z;  v <- b2 v + (1 - b2) g(y)^2;  x <- (1 - c) x + c z
        z <- z - learning_rate (g(y) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay y)
        c = w_t / sum w;  w_t = t^r        times the largest learning rate so far to the power `weight_lr_power`

    y is trained; the average x is what is evaluated. With `inner_momentum`, a corrected mean of gradients is divided.
    """

    learning_rate: float = step_size(0.0025, 1e-4)
    b1: float = averaging()
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)
    r: float = hyper(0.0, "power of the step's number in the weights of the average", bounds="[0, inf)")
    weight_lr_power: float = hyper(2.0, "power of the learning rate there", bounds="[0, inf)")
    inner_momentum: float = decay(0.0, "a mean of gradients; 0 keeps none")
    weight_decay: float = weight_decay(0.0, "weight decay at y")

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        first = {} if is_off(self.inner_momentum) else {"m": xp.zeros(p)}
        return {"z": xp.copy(p), "v": xp.zeros(p), **first}

    def direction(self, xp: Any, g: Any, s: State, at: At) -> Any:
        s["v"] = xp.ema(s["v"], g * g, self.b2)
        if "m" in s:
            s["m"] = xp.ema(s["m"], g, self.inner_momentum)
            g = s["m"] / xp.unbias(self.inner_momentum, at.t)
        return g / ((s["v"] / xp.unbias(self.b2, at.t)) ** 0.5 + self.eps)

    def state_floats(self, shapes: Shapes) -> int:
        return (2 + (self.inner_momentum > 0)) * size(shapes)
