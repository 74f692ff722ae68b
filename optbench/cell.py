"""A cell (one run), its id, its status and its trace."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Self

from optbench.fields import UserError, canonical, check_choice, digest
from optbench.lazy import np
from optbench.optimizer import Optimizer
from optbench.protocol import FRAMEWORKS, Counts
from optbench.task import Task

FORMAT = 3
"""The number of the record format; it is part of every cell's id and changes when results stop comparing."""

DTYPE_BYTES = {"float32": 4, "float64": 8}
DTYPES = tuple(DTYPE_BYTES)
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
"""What the factors of a float32 matrix product are rounded to on an accelerator; everything else stays float32."""


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
        check_choice("schedule", self.shape, self.SHAPES)
        for name in ("warmup", "decay"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(
                    f"schedule {self.shape}: {name}={value!r} is not a fraction of the steps in [0, 1]."
                )
            object.__setattr__(self, name, canonical("float", value))

    def factors(self, steps: int) -> np.ndarray:
        """The factor of the learning rate at each step t = 0 .. steps-1, float64 [steps]."""
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
        """`cosine[warmup=0.1]`."""
        if self.shape == "constant" and not self.warmup:
            return "constant"
        parts = [f"warmup={self.warmup:g}"] + ([f"decay={self.decay:g}"] if self.shape == "wsd" else [])
        return f"{self.shape}[{','.join(parts)}]"


@dataclass(frozen=True)
class Cell:
    """One run. Its id depends on its fields and on the task's data only."""

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
        for name, allowed in (("framework", FRAMEWORKS), ("dtype", DTYPES), ("precision", PRECISIONS)):
            check_choice(name, getattr(self, name), allowed)
        if self.precision != PRECISIONS[0] and self.dtype != "float32":
            raise UserError(
                f"precision {self.precision} rounds matrix products of float32, and dtype is {self.dtype}. "
                "Leave one of them out."
            )
        for name in ("seed", "steps"):
            object.__setattr__(self, name, canonical("int", getattr(self, name)))
        whole = isinstance(self.seed, int) and isinstance(self.steps, int)
        if not whole or self.steps < 1 or self.seed < 0:
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

    def made_of(self) -> tuple[Any, ...]:
        """The classes and functions that a worker needs to make it again."""
        return (*self.task.made_of(), *self.optimizer.made_of())

    def program_key(self) -> str:
        """What lanes of one program share: everything but the seed, the twin and the lane numbers."""
        spec = self.spec()
        for name in self.optimizer.lane_numbers():
            spec["optimizer"].pop(name, None)
        spec.pop("seed")
        spec["twin"] = self.twin is not None
        return digest(spec)

    def compiled_key(self) -> str:
        """What programs share that are compiled once: a schedule is numbers."""
        return dataclasses.replace(self, schedule=Schedule()).program_key()


@functools.lru_cache(maxsize=200_000)
def cell_id(cell: Cell, data: str) -> str:
    """The id of a cell over this data, and where its lane stops; the driver asks for the same ones many times."""
    stops = {"final": cell.task.final_loss(), "ceiling": cell.task.ceiling}
    return digest({"format": FORMAT, "data": data, "stops": stops, **cell.spec()})


class Explained(StrEnum):
    """Words of a closed set, each with what it means."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Self:
        """From a pair of word and sentence."""
        made = str.__new__(cls, word)
        made._value_, made.sentence = word, sentence
        return made


class Status(Explained):
    """How a cell ended; no row is ever dropped."""

    DONE = "done", "ran all its steps"
    REACHED = "reached", "reached the final target and stopped there"
    DIVERGED = "diverged", "the loss stopped being a finite number, or grew past the task's ceiling"
    TIMEOUT = "timeout", "the program made no progress within the time limit and was stopped"
    OUT_OF_MEMORY = "out of memory", "the program needed more memory than there was"
    UNAVAILABLE = "unavailable", "the framework or device is not available"
    ERROR = "error", "the program raised an error"

    @property
    def finished(self) -> bool:
        """Whether the lane ran to its end, and its last values count."""
        return self in (Status.DONE, Status.REACHED)

    @property
    def final(self) -> bool:
        """Whether the cell counts as stored."""
        return self.finished or self is Status.DIVERGED


FINISHED = tuple(status for status in Status if status.finished)
"""For columns of a frame."""
FINAL = tuple(status for status in Status if status.final)


@dataclass
class Trace:
    """The result of one cell."""

    cell: Cell
    status: Status
    reason: str = ""
    losses: Any = ()
    """The loss at the parameters before each step, f[steps run]."""
    evaluation_steps: Any = ()
    evaluations: dict[str, Any] = field(default_factory=dict)
    """Metric name to f[number of evaluations]."""
    counts: Counts = field(default_factory=Counts)
    """Gradients, products and losses computed up to the last evaluation."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Seconds, compile seconds, bytes, mode, device and other facts of the program."""
