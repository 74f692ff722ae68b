"""Adam in the eigenbasis of Shampoo's factors."""

from __future__ import annotations

from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.optimizers.adapter import decay, declared, flag, size, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.protocol import Shapes


@declared
class SOAP(Leafwise):
    """Adam in the slowly turning eigenbasis of the gradients' second moments along each axis.

    G_i <- beta G_i + (1 - beta) g_i g_i',  g_i the unfolding of g along axis i;  Q_i: eigenvectors of G_i
    h = g rotated by Q_i' along each axis;  m, v: Adam's means of h and of h^2, m rotated as Q_i turns
    theta <- theta - learning_rate sqrt(1 - b2^n) / (1 - b1^n) (m / (sqrt(v) + eps) rotated back by Q_i)
    theta <- (1 - learning_rate weight_decay) theta

    The first gradient only sets G_i and Q_i: n is one less than the number of the step. Every `precondition_frequency`
    steps, Q_i <- the Q of QR(G_i Q_i), its columns sorted by the size of Q_i' G_i Q_i before. An axis longer than
    `max_precond_dim`, and a vector unless `precondition_1d`, keeps its basis. Embeddings and heads keep that of their
    longer axis if `one_sided`, as the paper advises for them.
    """

    name: ClassVar[str] = "soap"
    source: ClassVar[str] = "arXiv:2409.11321; github.com/nikhilvyas/SOAP a1e5535"
    memory: ClassVar[str] = "2n + 2 of the squared length of each axis"
    stacks: ClassVar[bool] = True

    learning_rate: float = step_size(0.003, 1e-4)
    b1: float = decay(0.95, "the mean of gradients")
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
        if not self.merge_dims:
            return shape
        found, joined = [], 1
        for n in shape:
            if joined * n <= self.max_precond_dim:
                joined *= n
            elif joined > 1:
                found.append(joined)
                joined = n
            else:
                found.append(n)
        return (*found, joined) if joined > 1 or not found else tuple(found)

    def axes(self, shape: tuple[int, ...], role: str) -> list[int]:
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
        turned = xp.branch(
            n % self.precondition_frequency == 0, lambda: self.turn(xp, dict(s), axes, back), lambda: dict(s)
        )
        return xp.cast(-lr * u, g.dtype), turned

    def turn(self, xp: Any, s: State, axes: list[int], back: dict[int, Any]) -> State:
        """One step of the power method for each basis; m turns with them, v keeps to its columns."""
        for i in axes:
            G, Q = s[f"G{i}"], s[f"Q{i}"]
            order = xp.np.argsort(-(Q * (G @ Q)).sum(0))
            s["v"] = xp.np.moveaxis(xp.np.moveaxis(s["v"], i, 0)[order], 0, i)
            s[f"Q{i}"] = xp.qr(G @ Q[:, order])
        s["m"] = rotated(xp, rotated(xp, s["m"], back), {i: s[f"Q{i}"] for i in axes})
        return s

    def state_floats(self, shapes: Shapes) -> int:
        merged = [self.merged(shape) for shape in shapes.values()]
        squares = sum(2 * shape[i] ** 2 for shape in merged for i in self.axes(shape, ""))
        return 2 * size(shapes) + squares


def rotated(xp: Any, x: Any, bases: dict[int, Any]) -> Any:
    """x with each axis i multiplied by bases[i]: x_..j.. bases[i]_jk summed over j."""
    for i, basis in bases.items():
        x = xp.np.moveaxis(xp.np.moveaxis(x, i, -1) @ basis, -1, i)
    return x
