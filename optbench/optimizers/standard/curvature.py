"""Methods that measure curvature: along random directions, or along their own steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import Standard, decay, declared, size, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.protocol import Shapes


@declared(source="arXiv:2305.14342; github.com/Liuhong99/Sophia a7e1572")
class Sophia(Leafwise, order=2, slots=("m", "h")):
    """Momentum over a running estimate of the Hessian's diagonal, clipped entry by entry.

        h <- b2 h + (1 - b2) v (H v)        with random signs v, at every `update_every`-th step
        m <- b1 m + (1 - b1) g;  u = clip(m / (max(gamma h, 0) + eps), clipping)
        theta <- theta - learning_rate (u + weight_decay theta)

    Sophia-H of the paper; the products are counted, and the signs come from the seed's noise. The original's SophiaG
    gives squares of sampled gradients in place of v (H v), and its rho and batch size are gamma = rho bs.
    """

    learning_rate: float = step_size(0.001, 3e-4)
    b1: float = decay(0.965, "the mean of gradients", MOMENTUM)
    b2: float = decay(0.99, "the diagonal")
    gamma: float = hyper(0.01, "how much of the diagonal divides", bounds="(0, inf)")
    clipping: float = hyper(1.0, "largest entry of a step", bounds="(0, inf)")
    eps: float = small(1e-15, "added to the divisor")
    weight_decay: float = weight_decay(1e-4)
    update_every: int = hyper(10, "steps between products", bounds="[1, inf)")

    def due(self, t: Any) -> Any:
        return t % self.update_every == 0

    def step(self, xp: Any, g: Any, p: Any, s: State, at: At) -> Any:
        if at.diagonal is not None:
            s["h"] = xp.where(at.due, xp.ema(s["h"], at.diagonal, self.b2), s["h"])
        s["m"] = xp.ema(s["m"], g, self.b1)
        u = s["m"] / (xp.at_least(self.gamma * s["h"], 0) + self.eps)
        return -at.lr * (xp.np.clip(u, -self.clipping, self.clipping) + self.weight_decay * p)

    def due_hvps(self, steps: int) -> int:
        return -(-steps // self.update_every)


@declared(
    source="Liu and Nocedal 1989, doi:10.1007/BF01589116; optax.lbfgs, torch.optim.LBFGS",
    memory="(2 memory_size + 3) n at most",
)
class LBFGS(Standard, optax="lbfgs", asks=True, closes=True, grows=True, parity=False, proportional=False):
    """Limited-memory BFGS with a line search: quasi-Newton directions from the last steps and gradients.

        d = -B g                B from the last `memory_size` pairs (s, y) by the two-loop recursion
        theta <- theta + a d    a by a line search for the strong Wolfe conditions, at most 20 gradients

    It has no learning rate: one trial; a schedule scales the first guess of the line search. Every gradient of
    the search is counted. The searches differ: zoom with cubic interpolation in optax, torch's own in
    torch.optim, which keeps pairs of positive curvature only and ends at a tolerance. Made for full batches.
    optax's does not go under `masked`; torch.optim's has one group of real, non-empty, unsharded parameters, and is not
    copied or pickled.
    """

    memory_size: int = hyper(10, "pairs that are kept", bounds="[1, inf)")

    def in_torch(self, optim: Any) -> Callable[..., Any]:
        options = {"max_iter": 1, "max_eval": 21, "history_size": self.memory_size}
        return partial(optim.LBFGS, **options, line_search_fn="strong_wolfe")

    def state_floats(self, shapes: Shapes) -> int:
        """Pairs, last parameters and gradients, the line search's gradient, and two weights for each pair."""
        return (2 * self.memory_size + 3) * size(shapes) + 2 * self.memory_size

    def vectorizes(self, shapes: Shapes) -> bool:
        """No: lanes side by side would all search as long as the slowest."""
        return False
