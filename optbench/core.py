"""The words of optbench, as types. Everything else speaks them.

This module imports neither jax, torch nor pandas, so that a command line or a plan of ten thousand
cells costs nothing before the first program runs.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from optbench.fields import Named, Search, UserError, canonical, digest, grid, nearest
from optbench.fields import hyper as hyper
from optbench.protocol import Counts as Counts
from optbench.protocol import Noise as Noise
from optbench.protocol import Objective as Objective
from optbench.protocol import Rule as Rule
from optbench.protocol import Setting as Setting
from optbench.protocol import Step as Step
from optbench.protocol import normals as normals

if TYPE_CHECKING:
    import numpy as np

FORMAT = 2
"""The number of the record format; it is part of every cell's id and changes when results stop comparing."""

DTYPE_BYTES = {"float32": 4, "float64": 8}
DTYPES = tuple(DTYPE_BYTES)
FRAMEWORKS = ("jax", "torch")
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
"""What the factors of a float32 matrix product are rounded to on an accelerator; sums and all else stay float32."""

Arrays = Mapping[str, Any]
"""A flat dict of arrays, in torch layout; the form of parameters, data and draws in both frameworks."""


Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Optimizer(Named):
    """A method and its hyperparameters; builds its Rule for each framework it offers."""

    kind: ClassVar[str] = "optimizer"
    source: ClassVar[str]
    order: ClassVar[int] = 1
    memory: ClassVar[str] = ""
    parity: ClassVar[bool] = True
    """Whether both frameworks give the same numbers up to rounding; where not, the page says why."""
    grows: ClassVar[bool] = False
    """Whether the state grows up to `state_floats` while it runs."""
    elementwise: ClassVar[bool] = False
    """Whether each number moves by the history of its own gradient alone, so that torch may step lanes stacked."""
    finds_step: ClassVar[bool] = False
    """Whether it finds its step size from a tiny first one, and needs some hundred steps for it."""
    proportional: ClassVar[bool] = True
    """Whether a schedule's factor at a step scales that step; where not, it enters as the equations say."""

    def jax(self, setting: Setting) -> Rule:
        """The rule in JAX; overridden by optimizers that offer it."""
        raise UserError(
            f"optimizer {self.name} is not offered in jax; it is in {', '.join(self.frameworks())}."
        )

    def torch(self, setting: Setting) -> Rule:
        """The rule in PyTorch; overridden by optimizers that offer it."""
        raise UserError(
            f"optimizer {self.name} is not offered in torch; it is in {', '.join(self.frameworks())}."
        )

    def frameworks(self) -> tuple[str, ...]:
        """The frameworks this optimizer is offered in."""
        return tuple(name for name in FRAMEWORKS if getattr(type(self), name) is not getattr(Optimizer, name))

    def state_floats(self, shapes: Shapes) -> int | None:
        """How many numbers of parameter-like state the method keeps; scalar counters are not counted.

        None: nobody knows before it has run; then the record has the measured bytes.
        """
        raise NotImplementedError

    def flops(self, shapes: Shapes) -> float:
        """Floating-point operations of one step beyond the gradient, roughly; only the order of programs needs it."""
        known = self.state_floats(shapes)
        return 10.0 * (sum(math.prod(shape) for shape in shapes.values()) if known is None else known)

    def vectorizes(self, shapes: Shapes) -> bool:
        """Whether a step may run under vmap over lanes (False: lanes run one after the other)."""
        return True

    def due_hvps(self, steps: int) -> int:
        """How many Hessian-vector products the declared cadence asks for in `steps` steps."""
        return 0

    def swept(self) -> dataclasses.Field | None:
        """The field that the equal grid moves, if the method has one."""
        return next((f for f in dataclasses.fields(self) if f.metadata.get("sweep")), None)

    def trials(self, count: int) -> list[Self]:
        """The equal grid: `count` copies, evenly spaced on a log scale over the declared range."""
        spec = self.swept()
        if spec is None:
            return [self]
        low, high = spec.metadata["sweep"]
        return [dataclasses.replace(self, **{spec.name: value}) for value in grid(low, high, count)]

    def searched(self) -> dict[str, Search]:
        """What random and quasi-random trials draw, each with its range; the field that the grid moves comes first.

        A field that was set to something else than its default is the user's, and stays as it is.
        """
        swept = self.swept()
        found = {} if swept is None else {swept.name: Search(*swept.metadata["sweep"])}
        for spec in dataclasses.fields(self):
            if spec.metadata.get("search") and getattr(self, spec.name) == spec.default:
                found[spec.name] = spec.metadata["search"]
        return found

    def at(self, place: Sequence[float]) -> Self:
        """The trial at a place in the unit cube of what is searched."""
        lanes = self.lane_numbers()
        numbers = {
            name: search.at(where, name in lanes)
            for (name, search), where in zip(self.searched().items(), place, strict=True)
        }
        return dataclasses.replace(self, **numbers)

    def lane_numbers(self) -> dict[str, float]:
        """The hyperparameters that are arguments of the compiled program."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("lane")}

    def bind(self, numbers: Mapping[str, Any]) -> Self:
        """A copy that holds traced numbers. Not hashable, comparable or valid: for building a rule only."""
        bound = copy.copy(self)
        for key, value in numbers.items():
            object.__setattr__(bound, key, value)
        return bound


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

    def notes(self) -> list[str]:
        """What is worth saying about the data that is read, a sentence each."""
        return []

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """The steps at which the parameters are evaluated: 0, the last, and about `evaluations` between."""
        every = max(1, steps // self.evaluations)
        return tuple(sorted({*range(0, steps, every), steps}))


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over a horizon of steps, the same for every optimizer and framework.

    `constant`: 1. `cosine`: linear warmup over the first `warmup` of the steps, then half a cosine to 0.
    `wsd`: warmup, stable at 1, linear decay to 0 over the last `decay` of the steps. `linear`: warmup,
    then linear to 0.
    """

    shape: str = "constant"
    warmup: float = 0.0
    decay: float = 0.2

    SHAPES: ClassVar[tuple[str, ...]] = ("constant", "cosine", "wsd", "linear")

    def __post_init__(self) -> None:
        if self.shape not in self.SHAPES:
            raise UserError(f"schedule {self.shape!r} is not known. {nearest(self.shape, self.SHAPES)}")
        for name in ("warmup", "decay"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(
                    f"schedule {self.shape}: {name}={value!r} is not a fraction of the steps in [0, 1]."
                )
            object.__setattr__(self, name, canonical("float", value))

    def factors(self, steps: int) -> np.ndarray:
        """The factor of the learning rate at each step t = 0 .. steps-1, float64 [steps]."""
        import numpy as np

        done = (np.arange(steps) + 0.0) / steps
        if self.shape == "constant" and not self.warmup:
            return np.ones(steps)
        # The first step of a warmup is not wasted on a factor of 0: step t gets (t + 1) / warmup steps.
        rise = np.minimum(1.0, (np.arange(steps) + 1) / max(1.0, self.warmup * steps))
        rest = np.clip((done - self.warmup) / max(1e-12, 1 - self.warmup), 0, 1)
        fall = {
            "constant": np.ones(steps),
            "cosine": (1 + np.cos(np.pi * rest)) / 2,
            "linear": 1 - rest,
            "wsd": np.minimum(1.0, (1 - done) / max(1e-12, self.decay)),
        }[self.shape]
        return rise * fall

    def label(self) -> str:
        """A short name such as `cosine(warmup=0.1)`."""
        if self.shape == "constant" and not self.warmup:
            return "constant"
        parts = [f"warmup={self.warmup:g}"] + ([f"decay={self.decay:g}"] if self.shape == "wsd" else [])
        return f"{self.shape}({','.join(parts)})"


@dataclass(frozen=True)
class Cell:
    """One square of the grid; its id depends on its content and on the task's data, on nothing else."""

    task: Task
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    framework: str = "jax"
    dtype: str = "float32"
    seed: int = 0
    steps: int = 1000
    twin: int | None = None
    """A number for the comparison of frameworks: torch draws its noise from JAX's keys, and in JAX a twin above 0
    has each parameter moved by one rounding at the start and after every step, in directions that the number draws."""
    precision: str = PRECISIONS[0]

    def __post_init__(self) -> None:
        if self.framework not in FRAMEWORKS:
            raise UserError(
                f"framework {self.framework!r} is not known. {nearest(self.framework, FRAMEWORKS)}"
            )
        if self.dtype not in DTYPES:
            raise UserError(f"dtype {self.dtype!r} is not known. {nearest(self.dtype, DTYPES)}")
        if self.precision not in PRECISIONS:
            raise UserError(
                f"precision {self.precision!r} is not known. {nearest(self.precision, PRECISIONS)}"
            )
        if self.precision != PRECISIONS[0] and self.dtype != "float32":
            raise UserError(
                f"precision {self.precision} rounds matrix products of float32, and dtype is {self.dtype}. "
                "Leave one of them out."
            )
        for name in ("seed", "steps"):
            object.__setattr__(self, name, canonical("int", getattr(self, name)))
        if (
            not all(isinstance(value, int) for value in (self.seed, self.steps))
            or self.steps < 1
            or self.seed < 0
        ):
            raise UserError(
                f"a cell needs steps >= 1 and seed >= 0; got steps={self.steps!r}, seed={self.seed!r}."
            )
        if self.twin is not None and (self.twin < 0 or (self.twin and self.framework != "jax")):
            raise UserError(f"twin={self.twin!r} is not a twin of a cell in {self.framework}.")

    def spec(self) -> dict[str, Any]:
        """The cell as JSON data; the usual precision is left out, so that it needs no new ids."""
        special = {} if self.precision == PRECISIONS[0] else {"precision": self.precision}
        return {
            "task": self.task.spec(),
            "optimizer": self.optimizer.spec(),
            "schedule": dataclasses.asdict(self.schedule),
            "framework": self.framework,
            "dtype": self.dtype,
            "seed": self.seed,
            "steps": self.steps,
            **({} if self.twin is None else {"twin": self.twin}),
            **special,
        }

    def id(self) -> str:
        """Twenty hex digits of the content, the data and the record format."""
        return cell_id(self, self.task.data_hash())

    def program_key(self) -> str:
        """What cells of one compiled program share: everything but the seed, the twin and the lane numbers."""
        spec = self.spec()
        for name in self.optimizer.lane_numbers():
            spec["optimizer"].pop(name)
        spec.pop("seed")
        spec["twin"] = self.twin is not None
        return digest(spec)


@functools.lru_cache(maxsize=200_000)
def cell_id(cell: Cell, data: str) -> str:
    """The id of a cell over this data; the driver asks for the same ones many times."""
    return digest({"format": FORMAT, "data": data, **cell.spec()})


class Status(StrEnum):
    """How a cell ended: a closed set, each with its sentence; none is ever dropped."""

    DONE = "done"
    REACHED = "reached"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    UNAVAILABLE = "unavailable"
    ERROR = "error"

    @property
    def sentence(self) -> str:
        """What the status means."""
        return SENTENCES[self]

    @property
    def final(self) -> bool:
        """Whether the cell need not be tried again."""
        return self in (Status.DONE, Status.REACHED, Status.DIVERGED)


SENTENCES = {
    Status.DONE: "ran all its steps",
    Status.REACHED: "reached the final target and stopped there",
    Status.DIVERGED: "the loss stopped being a finite number, or grew past the task's ceiling",
    Status.TIMEOUT: "the program stood still or ran past its time limit and was ended",
    Status.OUT_OF_MEMORY: "the program needed more memory than there was",
    Status.UNAVAILABLE: "the framework or device it asks for is not here",
    Status.ERROR: "the program raised an error",
}


@dataclass
class Trace:
    """What one cell showed."""

    cell: Cell
    status: Status
    reason: str = ""
    losses: Any = ()
    """The loss at the parameters before each step, f[steps run]."""
    evaluation_steps: Any = ()
    evaluations: dict[str, Any] = field(default_factory=dict)
    """Metric name to f[number of evaluations]."""
    counts: Counts = field(default_factory=Counts)
    """What the lane had asked for at its last evaluation."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is needed to believe it: seconds, compile seconds, bytes, mode, device."""


def stream(seed: int, name: str) -> Any:
    """A NumPy generator for one of the named streams (init, batches, noise) of a seed."""
    import hashlib

    import numpy as np

    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.default_rng([seed, tag])
