"""Shampoo, and Adam in the eigenbasis of its factors."""

from __future__ import annotations

import math
from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import decay, declared, flag, size, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.protocol import Shapes
from optbench.ranges import is_off


class Bases(Leafwise):
    """A method whose lanes run one after the other: XLA's CPU thread pool stands still on batched decompositions."""

    def vectorizes(self, shapes: Shapes) -> bool:
        return False


@declared(
    source="arXiv:2409.11321; github.com/nikhilvyas/SOAP a1e5535",
    memory="2n + 2 of the squared length of each axis",
)
class SOAP(Bases, parity=False, proportional=False):
    """Adam in the slowly turning eigenbasis of the gradients' second moments along each axis.

        G_i <- beta G_i + (1 - beta) g_i g_i'        g_i: the unfolding of g along axis i; Q_i: eigenvectors of G_i
        h = Q_i' g        along each axis; m, v: Adam's means of h and of h^2, m rotated as Q_i turns
        theta <- theta - learning_rate sqrt(1 - b2^n) / (1 - b1^n) Q_i (m / (sqrt(v) + eps))        along each axis
        theta <- (1 - learning_rate weight_decay) theta

    The first gradient only sets G_i and Q_i: n is one less than the number of the step. Every `precondition_frequency`
    steps, Q_i <- the Q of QR(G_i Q_i), its columns sorted by the size of Q_i' G_i Q_i before. An axis longer than
    `max_precond_dim`, and a vector unless `precondition_1d`, keeps its basis. Embeddings and heads keep that of their
    longer axis if `one_sided`, as the paper advises for them.

    Where a first gradient has less rank than an axis is long, the eigenvectors of 0 are any, and the frameworks find
    others: the two then part. As the decay comes after the step, a schedule does not quite scale the step.
    """

    learning_rate: float = step_size(0.003, 1e-4)
    b1: float = decay(0.95, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.95, "the mean of squares")
    shampoo_beta: float | None = hyper(None, "decay of the factors; None: b2", bounds="[0, 1)")
    eps: float = small(1e-8)
    weight_decay: float = weight_decay(0.01, "decoupled weight decay, after the step")
    precondition_frequency: int = hyper(10, "steps between changes of basis", bounds="[1, inf)")
    max_precond_dim: int = hyper(10000, "longest axis with a basis of its own", bounds="[0, inf)")
    merge_dims: bool = flag(False, "join neighbouring axes up to the longest")
    precondition_1d: bool = flag(False, "a basis for vectors too")
    normalize_grads: bool = flag(False, "scale the step of each parameter to a mean square of 1")
    correct_bias: bool = flag(True, "correct the means' bias")
    one_sided: bool = flag(False, "no basis for the longer axis of embeddings and heads")

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape as it is preconditioned."""
        return joined(shape, self.max_precond_dim) if self.merge_dims else shape

    def axes(self, shape: tuple[int, ...], role: str = "") -> list[int]:
        """The axes that have a basis."""
        if len(shape) == 1 and not self.precondition_1d:
            return []
        longer = max(shape, default=0) if self.one_sided and role in ("embedding", "head") else None
        return [i for i, n in enumerate(shape) if n <= self.max_precond_dim and n != longer]

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        shape = self.merged(p.shape)
        found = {"m": xp.zeros(p).reshape(shape), "v": xp.zeros(p).reshape(shape)}
        for i in self.axes(shape, role):
            found |= {f"G{i}": xp.zeros(xp.eye(shape[i], p)), f"Q{i}": xp.eye(shape[i], p)}
        return found

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        g = g.reshape(self.merged(p.shape))
        axes = self.axes(g.shape, at.role)
        moved, after = xp.branch(
            at.t == 1,
            lambda: (xp.zeros(g), self.first(xp, g, dict(s), axes)),
            lambda: self.later(xp, g, dict(s), axes, at),
        )
        s.update(after)
        moved = moved.reshape(p.shape)
        return moved - at.lr * self.weight_decay * (at.t > 1) * (p + moved)

    def first(self, xp: Any, g: Any, s: State, axes: list[int]) -> State:
        """The factors of the first gradient, and their eigenvectors by falling eigenvalue."""
        self.learn(xp, g, s, axes)
        for i in axes:
            s[f"Q{i}"] = xp.np.flip(xp.eigh(s[f"G{i}"])[1], (1,))
        return s

    def learn(self, xp: Any, g: Any, s: State, axes: list[int]) -> None:
        beta = self.b2 if self.shampoo_beta is None else self.shampoo_beta
        for i in axes:
            unfolded = xp.np.moveaxis(g, i, 0).reshape(g.shape[i], -1)
            s[f"G{i}"] = xp.ema(s[f"G{i}"], unfolded @ unfolded.T, beta)

    def later(self, xp: Any, g: Any, s: State, axes: list[int], at: At) -> tuple[Any, State]:
        """Adam's step in the bases, then the bases of the next."""
        back = {i: s[f"Q{i}"].T for i in axes}
        h = rotated(xp, g, {i: s[f"Q{i}"] for i in axes})
        s["m"], s["v"] = xp.ema(s["m"], h, self.b1), xp.ema(s["v"], h * h, self.b2)
        u = rotated(xp, s["m"] / (s["v"] ** 0.5 + self.eps), back)
        if self.normalize_grads:
            u = u / (1e-30 + (u * u).mean() ** 0.5)
        lr, n = at.lr, at.t - 1
        if self.correct_bias:
            lr = lr * xp.unbias(self.b2, n) ** 0.5 / xp.unbias(self.b1, n)
        self.learn(xp, g, s, axes)
        due = n % self.precondition_frequency == 0
        turned = xp.branch(due, lambda: self.turn(xp, dict(s), axes, back), lambda: dict(s))
        return xp.cast(-lr * u, g.dtype), turned

    def turn(self, xp: Any, s: State, axes: list[int], back: dict[int, Any]) -> State:
        """One step of the power method for each basis; m turns with them, v keeps to its columns."""
        for i in axes:
            G, Q = s[f"G{i}"], s[f"Q{i}"]
            order = xp.np.argsort(-(Q * (G @ Q)).sum(0))
            s["v"] = xp.np.moveaxis(xp.np.moveaxis(s["v"], i, 0)[order], 0, i)
            s[f"Q{i}"] = xp.np.linalg.qr(G @ Q[:, order])[0]
        s["m"] = rotated(xp, rotated(xp, s["m"], back), {i: s[f"Q{i}"] for i in axes})
        return s

    def flops(self, shapes: Shapes) -> float:
        """Two rotations and a second moment, and now and then a QR."""
        return products(self, shapes, 3 + 10 / self.precondition_frequency)

    def state_floats(self, shapes: Shapes) -> int:
        return 2 * size(shapes) + squares(self, shapes)


@declared(
    source="arXiv:1802.09568, arXiv:2309.06497; github.com/facebookresearch/optimizers f606606",
    memory="2n + 2 of the squared length of each axis",
)
class Shampoo(Bases):
    """Momentum divided, along each axis, by a root of the gradients' second moments; as long as another method's step.

        L_i <- b2 L_i + (1 - b2) g_i g_i'        without 1 - b2 where b2 is 1; V likewise of g^2, by `grafting_b2`
        R_i = (L_i / (1 - b2^t) + eps I)^(-power / k)        for k axes, every `precondition_frequency` steps
        d = (b1 m + (1 - b1) g) / (1 - b1^t);  m <- b1 m + (1 - b1) g        the first with the old m
        u = R_i d;  u <- u |graft(d)| / |u|        along each axis; norms over the leaf
        theta <- theta - learning_rate (u + weight_decay theta)

    graft(d) = d / (sqrt(V) + grafting_eps), V corrected for 'adam', a sum for 'adagrad'; d for 'sgd'. It is the step
    before the first root. A matrix whose least eigenvalue is below eps is shifted up to it. An axis longer than
    `max_preconditioner_dim` has no factor here, where the original cuts leaves into blocks; the original also joins
    axes by default, which makes small leaves vectors: `merge_dims`.
    """

    learning_rate: float = step_size(0.001, 1e-4)
    b1: float = decay(0.9, "the mean of gradients", MOMENTUM)
    b2: float = hyper(0.999, "decay of the factors; 1: sums", bounds="[0, 1]")
    b3: float | None = hyper(None, "b1 in the step; None: b1", bounds="[0, 1)")
    eps: float = small(1e-8, "added to the factors")
    grafting: str = hyper(
        "adam", "whose length a step has", choices=("adam", "rmsprop", "adagrad", "sgd", "none")
    )
    grafting_b2: float = decay(0.999, "the mean of squares of what is grafted")
    grafting_eps: float = small(1e-8, "added to its root")
    precondition_frequency: int = hyper(10, "steps between roots", bounds="[1, inf)")
    start_preconditioning_step: int | None = hyper(
        None, "the step of the first root; None: the frequency", bounds="[1, inf)"
    )
    max_preconditioner_dim: int = hyper(1024, "longest axis with a factor", bounds="[1, inf)")
    merge_dims: bool = flag(False, "join axes up to the longest")
    power: float = hyper(0.5, "the exponent times the number of axes", bounds="(0, inf)")
    bias_correction: bool = flag(True, "correct the means' bias")
    momentum: float = decay(0.0, "a sum of steps; 0 keeps none")
    dampening: float = hyper(0.0, "how much less than the whole step is added", bounds="[0, 1)")
    nesterov: bool = flag(False, "look ahead in the sum of steps")
    weight_decay: float = weight_decay()
    decouple: bool = flag(True, "decoupled weight decay")

    def merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape as it is preconditioned: axes joined from the last."""
        return joined(shape[::-1], self.max_preconditioner_dim)[::-1] if self.merge_dims else shape

    def axes(self, shape: tuple[int, ...]) -> list[int]:
        return [i for i, n in enumerate(shape) if n <= self.max_preconditioner_dim]

    def start(self, xp: Any, p: Any, role: str, normal: Any) -> State:
        shape = self.merged(p.shape)
        zeros = xp.zeros(p).reshape(shape)
        kept = {
            "m": not is_off(self.b1),
            "V": self.grafting not in ("sgd", "none"),
            "M": not is_off(self.momentum),
        }
        found = {name: xp.copy(zeros) for name, wanted in kept.items() if wanted}
        for i in self.axes(shape):
            found |= {f"L{i}": xp.zeros(xp.eye(shape[i], p)), f"R{i}": xp.eye(shape[i], p)}
        return found

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        shape = p.shape
        g, p = g.reshape(self.merged(shape)), p.reshape(self.merged(shape))
        axes = self.axes(p.shape)
        if not self.decouple:
            g = g + self.weight_decay * p
        self.learn(xp, g, s, axes, at)
        d = self.mean(xp, g, s, at)
        u = rotated(xp, d, {i: s[f"R{i}"] for i in axes})
        if self.grafting != "none":
            own = self.grafted(xp, d, s, at)
            scaled = xp.cast(xp.norm(own) / (xp.norm(u) + 1e-16), u.dtype) * u
            u = xp.where(at.t < self.first_root(), own, scaled)
        if self.decouple:
            u = u + self.weight_decay * p
        if "M" in s:
            part = 1 - self.dampening
            s["M"] = self.momentum * s["M"] + part * u
            u = part * u + self.momentum * s["M"] if self.nesterov else s["M"]
        return (-at.lr * u).reshape(shape)

    def first_root(self) -> int:
        return self.start_preconditioning_step or self.precondition_frequency

    def learn(self, xp: Any, g: Any, s: State, axes: list[int], at: At) -> None:
        """The second moments with this gradient, and the roots where they are due."""
        for i in axes:
            unfolded = xp.np.moveaxis(g, i, 0).reshape(g.shape[i], -1)
            s[f"L{i}"] = added(xp, s[f"L{i}"], unfolded @ unfolded.T, self.b2)
        if "V" in s:
            s["V"] = added(xp, s["V"], g * g, 1.0 if self.grafting == "adagrad" else self.grafting_b2)
        first = self.first_root()
        due = (at.t % self.precondition_frequency == 0) & (at.t > first) | (at.t == first)

        def roots() -> State:
            scale = xp.unbias(self.b2, at.t) if self.bias_correction and not is_off(1 - self.b2) else 1.0
            power = self.power / max(g.ndim, 1)
            return {f"R{i}": self.inverse_root(xp, s[f"L{i}"] / scale, power) for i in axes}

        s.update(xp.branch(due, roots, lambda: {f"R{i}": s[f"R{i}"] for i in axes}))

    def inverse_root(self, xp: Any, L: Any, power: float) -> Any:
        values, vectors = xp.eigh(xp.cast(L, L.dtype) + self.eps * xp.eye(L.shape[0], L))
        # Beside large ones eps is less than the last digit.
        values = xp.at_least(values + xp.at_least(self.eps - values.min(), 0), self.eps)
        return (vectors * values**-power) @ vectors.T

    def mean(self, xp: Any, g: Any, s: State, at: At) -> Any:
        if is_off(self.b1):
            return g
        b3 = self.b1 if self.b3 is None else self.b3
        d, s["m"] = xp.ema(s["m"], g, b3), xp.ema(s["m"], g, self.b1)
        if self.bias_correction:
            d = xp.cast(d / (1 - b3 * (1 - xp.unbias(self.b1, at.t - 1))), g.dtype)
        return d

    def grafted(self, xp: Any, d: Any, s: State, at: At) -> Any:
        if self.grafting == "sgd":
            return d
        scale = xp.unbias(self.grafting_b2, at.t) if self.grafting == "adam" else 1.0
        return xp.cast(d / ((s["V"] / scale) ** 0.5 + self.grafting_eps), d.dtype)

    def flops(self, shapes: Shapes) -> float:
        """A second moment and a product, and now and then a root."""
        return products(self, shapes, 2 + 20 / self.precondition_frequency)

    def state_floats(self, shapes: Shapes) -> int:
        arrays = (self.b1 > 0) + (self.grafting not in ("sgd", "none")) + (self.momentum > 0)
        return arrays * size(shapes) + squares(self, shapes)


def added(xp: Any, mean: Any, x: Any, decay: float) -> Any:
    """A running mean, or the sum where the decay is 1."""
    return mean + x if is_off(1 - decay) else xp.ema(mean, x, decay)


def joined(shape: tuple[int, ...], longest: int) -> tuple[int, ...]:
    """The lengths of axes with neighbours joined, from the first, up to `longest`."""
    found: list[int] = []
    for n in shape:
        if found and found[-1] * n <= longest:
            found[-1] *= n
        elif n != 1:
            found.append(n)
    return tuple(found or [1])


def products(method: Any, shapes: Shapes, count: float) -> float:
    """Operations of so many products along each axis that has a basis, beside those of Adam."""
    along = [sum(shape[i] for i in method.axes(shape)) * math.prod(shape) for shape in shapes.values()]
    return 20.0 * size(shapes) + 2.0 * count * sum(along)


def squares(method: Any, shapes: Shapes) -> int:
    """How many numbers the factors and their bases or roots are."""
    merged = [method.merged(shape) for shape in shapes.values()]
    return sum(2 * shape[i] ** 2 for shape in merged for i in method.axes(shape))


def rotated(xp: Any, x: Any, bases: dict[int, Any]) -> Any:
    """x with each axis i multiplied by bases[i]: x_..j.. bases[i]_jk summed over j."""
    for i, basis in bases.items():
        x = xp.np.moveaxis(xp.np.moveaxis(x, i, -1) @ basis, -1, i)
    return x
