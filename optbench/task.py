"""Task: initial parameters, batches, loss, evaluation and targets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from optbench.fields import Named, UserError, is_own
from optbench.lazy import np
from optbench.protocol import FRAMEWORKS

Arrays = Mapping[str, Any]
"""A flat dict of arrays, in torch layout; the form of parameters, data and draws in both frameworks."""


Presets = Mapping[str, Mapping[str, Any]]
"""Names for settings of a task, each with the fields that it sets."""


class Target(NamedTuple):
    """A value of a metric that counts as reached. `final` ends the training of a lane there."""

    metric: str
    value: float
    final: bool = False


class Measured(NamedTuple):
    """Measured for a task that does not declare it: FLOP of a gradient, and numbers it keeps alive."""

    flops: float
    floats: int


MEASURED: dict[Any, Measured] = {}
"""By task; filled before a run with a user's own tasks, and sent to its workers."""


class Functions(NamedTuple):
    """A task in one framework: `loss(params, data, draw)` and `evaluate(params, data) -> {metric: value}`."""

    loss: Callable[[Any, Any, Any], Any]
    evaluate: Callable[[Any, Any], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Task(Named):
    """What is minimised: initial parameters, batches, loss, evaluation, targets.

    A task needs `init` and `loss(params, batch)`, in one framework or in operations that both have. `batch` is the
    result of `data`, or `batch_size` rows of it, reshuffled each epoch. A task that needs more overrides `jax` and
    `torch`.
    """

    kind: ClassVar[str] = "task"
    source: ClassVar[str] = ""
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
    """Approximate number of evaluations during a run."""
    written_in: ClassVar[tuple[str, ...]] = FRAMEWORKS
    """The frameworks whose arrays `loss` works on."""
    # Each of these may also be a property; so they declare no type.
    batch_size = 0
    """Rows of the data per step; 0: all."""
    convolves = False
    """Whether the loss has convolutions, which XLA runs slowly inside a loop on CPU."""
    horizon = 1000
    """Default number of steps."""
    seeded = True
    """Whether the seed has an effect; a deterministic task runs one seed and has no interval."""

    def targets(self) -> tuple[Target, ...]:
        """From easy to hard: reaching the first means that a setting works; steps are counted to the second."""
        return ()

    def final_loss(self) -> float | None:
        """The training loss at which a lane stops; None: it runs all its steps."""
        finals = [target.value for target in self.targets() if target.final and target.metric == "loss"]
        return finals[-1] if finals else None

    def data(self) -> dict[str, np.ndarray]:
        """Arrays shared by all lanes, float64 or integers; engines cast them."""
        return {}

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Initial parameters."""
        raise UserError("it has no init. Write init(self, seed), which gives a dict of arrays.")

    def roles(self) -> Mapping[str, str]:
        """One of `protocol.ROLES` for each parameter whose role the number of its axes does not tell."""
        return {}

    def draws(self, seed: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Inputs of the steps start <= t < stop (batch indices, gradient noise); the first axis is t."""
        if not self.batch_size:
            return {}
        return {"rows": permutations(seed, start, stop, self.rows(), self.batch_size)}

    def rows(self) -> int:
        """Number of rows of the data."""
        return min((len(array) for array in self.data().values()), default=0)

    def evaluate(self, params: Any, data: Any) -> dict[str, Any]:
        """The metrics at given parameters, each a curve; by default the loss over all data."""
        return {"loss": self.loss(params, data)}  # pyright: ignore[reportAttributeAccessIssue]

    def frameworks(self) -> tuple[str, ...]:
        """The frameworks that it runs in."""
        own = tuple(name for name in FRAMEWORKS if getattr(type(self), name) is not getattr(Task, name))
        return own or (self.written_in if hasattr(self, "loss") else ())

    def jax(self) -> Functions:
        """Loss and evaluation in JAX."""
        return self.plain("jax")

    def torch(self) -> Functions:
        """Loss and evaluation in PyTorch."""
        return self.plain("torch")

    def plain(self, framework: str) -> Functions:
        """The functions of a task that has one `loss(params, batch)`."""
        if framework not in self.frameworks():
            there = ", ".join(self.frameworks()) or "no framework: it has no loss(self, params, batch)"
            raise UserError(f"task {self.name} is not offered in {framework}; it is in {there}.")
        loss: Any = self.loss  # pyright: ignore[reportAttributeAccessIssue]

        def of_step(params: Any, data: Any, draw: Any) -> Any:
            rows = draw.get("rows")
            return loss(params, data if rows is None else {name: array[rows] for name, array in data.items()})

        return Functions(of_step, self.evaluate)

    def flops(self) -> float:
        """Approximate floating-point operations of one gradient; decides how lanes run."""
        if self in MEASURED:
            return MEASURED[self].flops
        rows = max(1, self.batch_size or self.rows())
        return 6.0 * rows * sum(array.size for array in self.init(0).values())

    def working_floats(self) -> int:
        """Approximate count of numbers a gradient keeps alive beside parameters and data (mostly activations)."""
        return MEASURED[self].floats if self in MEASURED else 0

    def examples(self) -> int:
        """Number of `unit` per step; 0 without data."""
        return self.batch_size

    def data_hash(self) -> str:
        """A digest of the data that is read, part of every cell's id.

        The package's tasks that follow from their fields have none; a user's own has a digest of its arrays.

        Raises:
            UserError: the data is missing, malformed, or too small for the task's fields.
        """
        return digest_of_arrays(self) if is_own(type(self)) else ""

    def surface(self) -> tuple[Any, Any, Any] | None:
        """For a polynomial of two numbers: coefficients [i][j] of x^i y^j, start and minimum; else None."""
        return None

    def notes(self) -> list[str]:
        """Notes about the data that is read, a sentence each."""
        return []

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """The steps at which the parameters are evaluated: 0, the last, and about `evaluations` between."""
        every = max(1, steps // self.evaluations)
        return tuple(sorted({*range(0, steps, every), steps}))


def stream(seed: int, name: str) -> Any:
    """A NumPy generator for one of the named streams (init, batches, noise) of a seed."""
    import hashlib

    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.default_rng([seed, tag])


@functools.cache
def digest_of_arrays(task: Task) -> str:
    import hashlib

    data = task.data()
    if not isinstance(data, Mapping):
        raise UserError(f"data() gives {type(data).__name__}, not a dict of arrays.")
    arrays = {name: np.asarray(array) for name, array in sorted(data.items())}
    for name, each in arrays.items():
        if each.dtype.kind not in "biuf":
            raise UserError(f"data()[{name!r}] is an array of {each.dtype}, not of numbers.")
    heads = [(name, each.shape, str(each.dtype)) for name, each in arrays.items()]
    found = hashlib.sha256(str(heads).encode())
    for each in arrays.values():
        found.update(np.ascontiguousarray(each).tobytes())
    return found.hexdigest()[:20] if arrays else ""


def permutations(seed: int, start: int, stop: int, rows: int, batch: int) -> np.ndarray:
    """Rows of each step's batch, int32 [steps, batch]: a new permutation each epoch, the remainder dropped.

    Pure in (seed, step), so a resumed run sees the same batches.
    """
    if batch > rows:
        raise UserError(f"a batch of {batch} is more than the {rows} rows of the data. Lower batch_size.")
    per_epoch = rows // batch
    first, last = start // per_epoch, (stop - 1) // per_epoch
    epochs = [
        stream(seed, f"batches/{epoch}").permutation(rows)[: per_epoch * batch].reshape(per_epoch, batch)
        for epoch in range(first, last + 1)
    ]
    offset = start - first * per_epoch
    return np.concatenate(epochs)[offset : offset + stop - start].astype(np.int32)
