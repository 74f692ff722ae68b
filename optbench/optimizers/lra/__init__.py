"""PSGD LRA: a preconditioner that is a diagonal plus a matrix of low rank, on all parameters as one vector.

Q = (I + U V^T) diag(d) with U, V [n, r] and d [n]. One step of its fit, all from the old U, V, d:

    a = Q h,  b = Q^-T v                     h = g in whitening,  H v in Hessian mode;  v ~ N(0, I)
    nD = (P h) h - v (P^-1 v)                P = Q^T Q;  products by entry
    d <- d - k d nD                          k = precond_lr min_i 1/(|(P h, v)_i| |(h, P^-1 v)_i|)
    U <- U - k (a a^T V - b b^T V)(I + V^T U)      on a coin's heads, and on its tails
    V <- V - k ((I + V U^T) a a^T U - (I + V U^T) b b^T U)
                                             k = precond_lr / (|a| |W W^T a| + |b| |W W^T b|);  W the other one
    u = Q^T Q m                              m: bias-corrected momentum, or Nesterov's
    theta <- theta - learning_rate (u + weight_decay theta)

State: (2 r + 2) n numbers, (2 r + 1) n without momentum.

`lra[dQ=EQ]` is another optimizer: `lra_dq`, PSGD LRA as the package psgd_torch has it.

Source: Xi-Lin Li, Preconditioned Stochastic Gradient Descent, arXiv:1512.04202; Preconditioner on Matrix
Lie Group for SGD, arXiv:1809.10232; Black Box Lie Group Preconditioners for SGD, arXiv:2211.04422; package
psgd-jax 0.2.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from optbench.fields import hyper
from optbench.optimizers.adapter import declared, size
from optbench.optimizers.psgd import BALANCE_PROBABILITY, GroupOptimizer
from optbench.optimizers.psgd.groups import Factors, Fit, WholeVector
from optbench.protocol import Noise, Shapes


@declared
class LRA(GroupOptimizer):
    __doc__ = __doc__
    source: ClassVar[str] = "arXiv:1512.04202, arXiv:1809.10232, arXiv:2211.04422; psgd-jax 0.2.9"
    memory: ClassVar[str] = "(2 r + 1) n, and n of momentum"

    uvd_rank_of_approximation: int = hyper(10, "rank r of the correction to the diagonal", bounds="[1, inf)")

    def state_floats(self, shapes: Shapes) -> int:
        return (2 * self.uvd_rank_of_approximation + 1 + (self.b1 > 0)) * size(shapes)

    def vectorizes(self, shapes: Shapes) -> bool:
        """Not under vmap: a batched solve can stand still on XLA's CPU thread pool."""
        return False


class LowRank(WholeVector):
    """Q = (I + U V^T) diag(d); U, V [n, r], d [n, 1] as in the original's state."""

    own: ClassVar[str] = "uvd_rank_of_approximation"
    uniforms: ClassVar[tuple[str, ...]] = ("balance_u", "choose_u")

    def __init__(self, xp: Any, options: Mapping[str, Any]):
        super().__init__(xp, options)
        self.rank = options[self.own.split()[-1]]

    def init(self, unit: Any, noise: Noise) -> Factors:
        n, r = len(unit), self.rank
        like, small = self.xp.empty((n, r), unit), (n * (r + 10)) ** 0.5
        drawn = {name: noise.normal(f"init_{name}", 0, like) / small for name in ("U", "V")}
        return {**drawn, "d": self.xp.ones((n, 1), unit)}

    def scaled(self, factors: Factors, scale: Any) -> Factors:
        return {**factors, "d": scale * factors["d"]}

    def fit(self, factors: Factors, given: Fit) -> Factors:
        xp, norm = self.xp, self.xp.np.linalg.norm
        h, v, U, V, d = given.h, given.v, factors["U"], factors["V"], factors["d"][:, 0]
        due = given.uniform("balance_u") < BALANCE_PROBABILITY
        ratio = xp.ratio_if(due, lambda: xp.np.sqrt(norm(U) / norm(V)))
        if ratio is not None:
            U, V = U / ratio, V * ratio
        a, b, curved, flattened, small = self.products(h, v, U, V, d)
        new_d = d - self.diagonal_step(h, v, curved, flattened, given) * d

        def left() -> tuple[Any, Any]:
            return U - self.step_size(a, b, V, given) * self.left(a, b, V, small), V

        def right() -> tuple[Any, Any]:
            return U, V - self.step_size(a, b, U, given) * self.right(a, b, U, V)

        U, V = xp.branch(given.uniform("choose_u") < 0.5, left, right)
        return {"U": U, "V": V, "d": new_d[:, None]}

    def products(self, h: Any, v: Any, U: Any, V: Any, d: Any) -> tuple[Any, ...]:
        """Q h, Q^-T v, P h, P^-1 v, and I + V^T U."""
        a = d * h
        a = a + U @ (V.T @ a)
        curved = d * (a + V @ (U.T @ a))
        small = self.xp.eye(self.rank, h) + V.T @ U
        solve = self.xp.solver(small)
        b = v / d
        b = b - V @ solve(U.T @ b, transposed=True)
        return a, b, curved, (b - U @ solve(V.T @ b)) / d, small

    def left(self, a: Any, b: Any, V: Any, small: Any) -> Any:
        outer = self.xp.np.outer
        return outer(a, (a @ V) @ small) - outer(b, (b @ V) @ small)

    def right(self, a: Any, b: Any, U: Any, V: Any) -> Any:
        outer, ua, ub = self.xp.np.outer, U.T @ a, U.T @ b
        return outer(a + V @ ua, ua) - outer(b + V @ ub, ub)

    def apply(self, factors: Factors, m: Any) -> Any:
        U, V, d = factors["U"], factors["V"], factors["d"][:, 0]
        x = d * m
        x = x + U @ (V.T @ x)
        return d * (x + V @ (U.T @ x))

    def diagonal_step(self, h: Any, v: Any, curved: Any, flattened: Any, given: Fit) -> Any:
        gradient, clip = curved * h - v * flattened, self.xp.np.clip
        if not given.second_order:
            return given.lr / clip(abs(gradient).max(), min=1e-25) * gradient
        # 1e-25 in psgd-jax, which is the square of a gradient of 3e-13.
        sizes = clip(curved**2 + v**2, min=1e-25) ** -0.5 * clip(h**2 + flattened**2, min=1e-37) ** -0.5
        return given.lr * sizes.min() * gradient

    def step_size(self, a: Any, b: Any, W: Any, given: Fit) -> Any:
        """The step of one of U and V, W being the other one."""
        if given.second_order:
            return given.lr / self.xp.np.clip(self.reach(a, b, W), min=1e-25)
        wa, wb = W @ (W.T @ a), W @ (W.T @ b)
        squared = (a @ a) * (wa @ wa) + (b @ b) * (wb @ wb) - 2 * (a @ b) * (wa @ wb)
        return given.lr / self.xp.np.clip(self.xp.np.sqrt(abs(squared)), min=1e-25)

    def reach(self, a: Any, b: Any, W: Any) -> Any:
        """A bound of the second derivative by one of U and V, W being the other one."""
        norm = self.xp.np.linalg.norm
        return norm(a) * norm(W @ (W.T @ a)) + norm(b) * norm(W @ (W.T @ b))
