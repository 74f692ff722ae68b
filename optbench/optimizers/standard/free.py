"""Methods that find their step size, or need no schedule: from the loss, from distances, from averages."""

from __future__ import annotations

from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.optimizers.adam import Moments
from optbench.optimizers.adapter import (
    Rate,
    Standard,
    decay,
    declared,
    factor,
    small,
    step_size,
    weight_decay,
)


@declared
class PolyakSGD(Standard):
    """Polyak's step, which needs the loss and its least value.

    theta <- theta - min(learning_rate, (f - f_min) / (|g|^2 + eps)) g

    The learning rate is a bound on the step, and is swept; a schedule scales the step.
    """

    source: ClassVar[str] = "arXiv:2002.10542; optax.polyak_sgd"
    asks: ClassVar[bool] = True

    learning_rate: float = step_size(1.0, 1e-2)
    f_min: float = hyper(0.0, "least value of the loss", bounds="(-inf, inf)")
    eps: float = small(0.0, "added to the squared norm")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.polyak_sgd; its learning rate is no schedule, so the factor is what is left of `rate`."""
        return optax.polyak_sgd(
            self.learning_rate, lambda count: rate(count) / self.learning_rate, self.f_min, self.eps
        )


@declared
class Momo(Standard):
    """Momentum with a step from a model of the loss, bounded below by `f_min`.

    m, f and c are running means of g, of the loss and of <g, theta>
    theta <- theta - min(learning_rate, max(f - f_min - c + <m, theta>, 0) / |m|^2) m

    The learning rate is a bound on the step, and is swept; a schedule moves the bound.
    """

    source: ClassVar[str] = "arXiv:2305.07583; optax.contrib.momo"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 1
    asks: ClassVar[bool] = True

    learning_rate: float = step_size(1.0, 1e-2)
    b1: float = decay(0.9, "the means")
    f_min: float = hyper(0.0, "lower bound of the loss", bounds="(-inf, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.contrib.momo(rate, self.b1, self.f_min, self.weight_decay)


@declared
class MomoAdam(Standard):
    """Momo in Adam's norm.

    m, v, f and c are running means of g, of g^2, of the loss and of <g, theta>;  D = eps + sqrt(v / (1 - b2^t))
    theta <- theta - min(learning_rate / a, max(f - a f_min - c + <m, theta>, 0) / <m, m / D>) m / D,
    with a = 1 - b1^t

    The learning rate is a bound on the step, and is swept; a schedule moves the bound.
    """

    source: ClassVar[str] = "arXiv:2305.07583; optax.contrib.momo_adam"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 2
    asks: ClassVar[bool] = True

    learning_rate: float = step_size(0.01, 1e-4)
    b1: float = decay(0.9, "the means")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)
    f_min: float = hyper(0.0, "lower bound of the loss", bounds="(-inf, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        means = (self.b1, self.b2, self.eps)
        return optax.contrib.momo_adam(rate, *means, self.f_min, self.weight_decay)


@declared
class DoG(Standard):
    """Distance over gradients: the step is how far one has come over the root of the gradients' squares.

    r = max over the steps so far of |theta - theta_0|, at least `first` (1 + |theta_0|)
    theta <- theta - learning_rate r / sqrt(sum |g|^2 + eps) g

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others.
    """

    name: ClassVar[str] = "dog"
    source: ClassVar[str] = "arXiv:2302.12022; optax.contrib.dog"
    arrays: ClassVar[int] = 1
    finds_step: ClassVar[bool] = True

    learning_rate: float = factor()
    first: float = hyper(1e-6, "first distance, relative to the parameters", bounds="(0, inf)")
    eps: float = small(1e-8, "added to the sum of squares")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.contrib.dog(rate, ("heuristic", self.first), self.eps)


@declared
class DoWG(Standard):
    """Distance over weighted gradients: DoG that weighs each gradient by the distance at its time.

    r2 = max over the steps so far of |theta - theta_0|^2, at least eps;  w <- w + r2 |g|^2
    theta <- theta - learning_rate r2 / (sqrt(w) + eps) g

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others.
    """

    name: ClassVar[str] = "dowg"
    source: ClassVar[str] = "arXiv:2305.16284; optax.contrib.dowg"
    arrays: ClassVar[int] = 1
    finds_step: ClassVar[bool] = True

    learning_rate: float = factor()
    eps: float = hyper(1e-4, "first squared distance, and added to the root", bounds="(0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        return optax.contrib.dowg(rate, eps=self.eps)


@declared
class Prodigy(Moments):
    """Adam with a step size that grows with a lower bound of the distance to the solution.

    d <- max(d, <s> / |S|_1), where <s> and S are decaying sums of d^2 <g, theta_0 - theta> and d^2 g
    theta <- theta - learning_rate d (Adam's step on d g + weight_decay theta)

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others. Adam's bias corrections are on, as in optax; the package prodigyopt has
    them off by default (`use_bias_correction`).
    """

    source: ClassVar[str] = "arXiv:2306.06101; optax.contrib.prodigy"
    arrays: ClassVar[int] = 4
    finds_step: ClassVar[bool] = True

    learning_rate: float = factor()
    first: float = hyper(1e-6, "first estimate of the distance", bounds="(0, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import from_the_first_gradient

        options = {"eps": self.eps, "estim_lr0": self.first, "weight_decay": self.weight_decay}
        return from_the_first_gradient(optax.contrib.prodigy(rate, (self.b1, self.b2), **options))


@declared
class DAdaptAdamW(Moments):
    """AdamW with D-Adaptation's lower bound of the distance as its step size.

    d <- max(d, r / |s|_1), where s is a decaying sum of d g and r one of d <g, s / sqrt(v)>
    theta <- theta - learning_rate d (Adam's step + weight_decay theta)

    It finds its step size. The learning rate is a factor of it, 1 as its authors advise; it is swept, so that the
    method has as many trials as the others. A schedule also weighs the sums. Adam's bias corrections are on and weight
    decay is decoupled, as in optax; DAdaptAdam of the package dadaptation has neither by default.
    """

    name: ClassVar[str] = "dadapt_adamw"
    source: ClassVar[str] = "arXiv:2301.07733; optax.contrib.dadapt_adamw"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 3
    finds_step: ClassVar[bool] = True

    learning_rate: float = factor()
    first: float = hyper(1e-6, "first estimate of the distance", bounds="(0, inf)")
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import from_the_first_gradient

        options = (self.eps, self.first, self.weight_decay)
        return from_the_first_gradient(optax.contrib.dadapt_adamw(rate, (self.b1, self.b2), *options))


@declared
class ScheduleFreeSGD(Standard):
    """Descent without a schedule: gradients are taken between a fast sequence and its average.

    y = b1 x + (1 - b1) z;  z <- z - learning_rate g(y);  x <- (1 - c) x + c z
    c = w_t / sum w, with w the square of the largest learning rate so far

    y is trained; the average x is what is evaluated.
    """

    source: ClassVar[str] = "arXiv:2405.15682; optax.contrib.schedule_free"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 1
    asks: ClassVar[bool] = True

    learning_rate: float = step_size(0.1, 3e-3)
    b1: float = hyper(0.9, "weight of the average where gradients are taken", bounds="(0, 1)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.contrib.schedule_free, which counts from 1."""
        return optax.contrib.schedule_free(optax.sgd(rate), lambda count: rate(count - 1), self.b1)


@declared
class ScheduleFreeAdamW(Standard):
    """AdamW without a schedule: RMSprop's steps in the place of descent's.

    y = b1 x + (1 - b1) z;  v <- b2 v + (1 - b2) g(y)^2;  x <- (1 - c) x + c z
    z <- z - learning_rate (g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay y)
    c = w_t / sum w, with w the square of the largest learning rate so far

    y is trained; the average x is what is evaluated.
    """

    name: ClassVar[str] = "schedule_free_adamw"
    source: ClassVar[str] = "arXiv:2405.15682; optax.contrib.schedule_free_adamw"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 2
    asks: ClassVar[bool] = True

    learning_rate: float = step_size(0.0025, 1e-4)
    b1: float = hyper(0.9, "weight of the average where gradients are taken", bounds="(0, 1)")
    b2: float = decay(0.999, "the mean of squares")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay()

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        """optax.contrib.schedule_free, which counts from 1, over optax.scale_by_rms."""
        steps = optax.chain(
            optax.scale_by_rms(self.b2, self.eps, eps_in_sqrt=False, bias_correction=True),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(rate),
        )
        return optax.contrib.schedule_free(steps, lambda count: rate(count - 1), self.b1)


@declared
class Madgrad(Standard):
    """Dual averaging with the cube root of the squares' sum, and momentum towards it.

    l = (learning_rate + eps) sqrt(t);  s <- s + l g;  v <- v + l g^2;  z = theta_0 - s / (cbrt(v) + eps)
    theta <- momentum theta + (1 - momentum) z

    Gradients are weighted when they come, so a schedule also weighs them against each other.
    """

    source: ClassVar[str] = "arXiv:2101.11075; optax.contrib.madgrad"
    proportional: ClassVar[bool] = False
    arrays: ClassVar[int] = 3

    learning_rate: float = step_size(0.01, 1e-4)
    momentum: float = decay(0.9, "the way to the dual average")
    eps: float = hyper(1e-6, "added to the learning rate and the root", bounds="(0, inf)")

    def in_optax(self, optax: Any, rate: Rate) -> Any:
        from optbench.optimizers.standard.jax import madgrad

        return madgrad(rate, self.momentum, eps=self.eps)
