"""Methods that need no schedule, because an average of their path is evaluated."""

from __future__ import annotations

from typing import Any

from optbench.fields import MOMENTUM, hyper
from optbench.optimizers.adapter import decay, declared, size, small, step_size, weight_decay
from optbench.optimizers.leafwise import At, Leafwise, State
from optbench.protocol import Shapes


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
        return {"z": xp.copy(p), "v": xp.zeros(p)} | ({"m": xp.zeros(p)} if self.inner_momentum else {})

    def direction(self, xp: Any, g: Any, s: State, at: At) -> Any:
        s["v"] = xp.ema(s["v"], g * g, self.b2)
        if self.inner_momentum:
            s["m"] = xp.ema(s["m"], g, self.inner_momentum)
            g = s["m"] / xp.unbias(self.inner_momentum, at.t)
        return g / ((s["v"] / xp.unbias(self.b2, at.t)) ** 0.5 + self.eps)

    def state_floats(self, shapes: Shapes) -> int:
        return (2 + (self.inner_momentum > 0)) * size(shapes)
