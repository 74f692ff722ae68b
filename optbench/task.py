"""What a task is: first parameters, batches, a loss, how it is evaluated, and what counts as solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from optbench.fields import Named

if TYPE_CHECKING:
    import numpy as np


Arrays = Mapping[str, Any]
"""A flat dict of arrays, in torch layout; the form of parameters, data and draws in both frameworks."""


Presets = Mapping[str, Mapping[str, Any]]
"""Names for settings of a task, each with the fields that it sets."""


class Target(NamedTuple):
    """A value of a metric that counts as reached. `final` ends the training of a lane there."""

    metric: str
    value: float
    final: bool = False


class Functions(NamedTuple):
    """A task in one framework: `loss(params, data, draw)` and `evaluate(params, data) -> {metric: value}`."""

    loss: Callable[[Any, Any, Any], Any]
    evaluate: Callable[[Any, Any], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Task(Named):
    """What is minimised: first parameters, batches, loss, how it is evaluated, what counts as solved."""

    kind: ClassVar[str] = "task"
    source: ClassVar[str]
    selection: ClassVar[str] = "loss"
    """The metric by which a learning rate is chosen: the training loss, or one on the validation split."""
    score: ClassVar[str] = "loss"
    """The metric that is reported; where there is a test split, it is on that."""
    optimum: ClassVar[float | None] = None
    """The least possible value of the loss, where it is known."""
    toy: ClassVar[bool] = False
    unit: ClassVar[str] = "examples"
    """What throughput counts: examples, tokens or sequences."""
    ceiling: ClassVar[float] = 1e10
    """A loss above this counts as diverged."""
    evaluations: ClassVar[int] = 30
    """How often the parameters are evaluated on the way, roughly."""

    @property
    def convolves(self) -> bool:
        """Whether the loss has convolutions, which XLA runs slowly inside a loop on CPU."""
        return False

    @property
    def horizon(self) -> int:
        """How many steps it is run for, unless said otherwise."""
        return 1000

    @property
    def seeded(self) -> bool:
        """Whether the seed changes anything; a task without randomness runs one seed and prints no interval."""
        return True

    def targets(self) -> tuple[Target, ...]:
        """What counts as solved, from easy to hard: the first says that it works, the second is the main one."""
        return ()

    def final_loss(self) -> float | None:
        """The training loss at which a lane stops; None: it runs all its steps."""
        finals = [target.value for target in self.targets() if target.final and target.metric == "loss"]
        return finals[-1] if finals else None

    def data(self) -> dict[str, np.ndarray]:
        """Arrays that every lane shares, as float64 or integers; engines cast them."""
        return {}

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """First parameters."""
        raise NotImplementedError

    def draws(self, seed: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Per-step inputs (batch indices, gradient noise) of the steps start <= t < stop, first axis t."""
        return {}

    def jax(self) -> Functions:
        """Loss and evaluation in JAX."""
        raise NotImplementedError

    def torch(self) -> Functions:
        """Loss and evaluation in PyTorch."""
        raise NotImplementedError

    def flops(self) -> float:
        """Floating-point operations of one gradient, roughly; decides how lanes run."""
        raise NotImplementedError

    def working_floats(self) -> int:
        """How many numbers one gradient keeps alive beside parameters and data, roughly: activations, mostly."""
        return 0

    def examples(self) -> int:
        """How many of `unit` a step sees; 0 where there is no data."""
        return 0

    def data_hash(self) -> str:
        """A digest of the data that is read, part of every cell's id; tasks made from their fields have none.

        Raises:
            UserError: the data is not there, is not what it should be, or is too little for the task's fields.
        """
        return ""

    def surface(self) -> tuple[Any, Any, Any] | None:
        """For a function of two numbers that is a polynomial: coefficients [i][j] of x^i y^j, start and minimum."""
        return None

    def notes(self) -> list[str]:
        """What is worth saying about the data that is read, a sentence each."""
        return []

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """The steps at which the parameters are evaluated: 0, the last, and about `evaluations` between."""
        every = max(1, steps // self.evaluations)
        return tuple(sorted({*range(0, steps, every), steps}))


def stream(seed: int, name: str) -> Any:
    """A NumPy generator for one of the named streams (init, batches, noise) of a seed."""
    import hashlib

    import numpy as np

    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.default_rng([seed, tag])
