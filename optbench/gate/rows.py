"""The option rows of an optimizer: few settings that together give every option another value than its default."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from optbench import catalogue, optimizers
from optbench.cell import Cell
from optbench.fields import FROM_NONE, MOMENTUM, UserError
from optbench.optimizer import Optimizer
from optbench.optimizers.foreign import GIVEN, Foreign, parameters
from optbench.target import resolve
from optbench.tasks.leaves import SHAPES, Leaves

STEPS = 32
MODES = {"jax": "loop", "torch": "eager"}
SCHEDULES = ("cosine[warmup=0.1]", "linear", "wsd[warmup=0.05,decay=0.5]", "constant[warmup=0.2]")
"""The rows of an optimizer take turns."""
ALSO = {
    "kron": (
        "optbench.gate.special:kron_of_stacks",
        "optbench.gate.special:kron_of_stacks_one_by_one",
        "optbench.gate.special:kron_of_low_precision",
        "optbench.gate.special:kron_annealed",
        "optbench.gate.special:torch_kron_of_stacks",
        "optbench.optimizers.kron.torch_kron_torch:KronTorch",
        "optbench.optimizers.kron.torch_kron_torch:KronTorch[merge_dims=false,weight_decay=0.1]",
    ),
    "xmat": (
        "optbench.gate.special:xmat_of_scheduled_fits",
        "optbench.gate.special:torch_xmat_of_scheduled_fits",
        "optbench.optimizers.xmat.jax:xmat[upstream=0.1.0]",
        "optbench.optimizers.xmat.torch:XMat[upstream=0.1.0]",
    ),
}
"""What the fields of an optimizer's dataclass do not reach."""
STEADY: dict[str, dict[str, Any]] = {"affine": {"precond_init_scale": 1.0}, "soap": {"max_precond_dim": 4}}
"""What keeps rows of choices from being rounding's: at the scale that the method finds itself, the first gradient of a
side of length 1 is 0 before rounding, and +-1 after it is normalised; SOAP's first eigenvectors of a side that is
longer than all others together are any basis of a null space."""


@dataclass(frozen=True)
class Row:
    """One setting of an optimizer in one framework: one program, whose lanes differ in learning rate and seed."""

    name: str
    optimizer: Optimizer
    framework: str
    schedule: str
    mode: str
    lanes: int = 1
    task: Leaves = field(default_factory=Leaves)

    def cell(self, rate: float = 1.0, seed: int = 0) -> Cell:
        """A cell with so many times the row's learning rate."""
        swept, own = self.optimizer.swept(), self.optimizer
        if swept is not None:
            own = dataclasses.replace(own, **{swept.name: getattr(own, swept.name) * rate})
        return Cell(self.task, own, catalogue.schedule(self.schedule), self.framework, "float64", seed, STEPS)


def rows(optimizer: Optimizer) -> list[Row]:
    """All rows of an optimizer, in each framework that it is offered in."""
    settings = list(options(optimizer))
    settings += [(text.partition(":")[2], catalogue.optimizer(text)) for text in ALSO.get(optimizer.name, ())]
    made = [
        Row(name, setting, framework, schedule, MODES[framework], lanes=2 if name == "numbers" else 1)
        for (name, setting), schedule in zip(settings, itertools.cycle(SCHEDULES), strict=False)
        for framework in setting.frameworks()
    ]
    return [*made, *special(optimizer)]


def special(optimizer: Optimizer) -> Iterator[Row]:
    """Momenta at 0, where that keeps no state or is our own code; other ways of running lanes; large leaves."""
    momenta = [
        spec for spec in dataclasses.fields(optimizer) if spec.metadata.get("search") in (MOMENTUM, FROM_NONE)
    ]
    off = {spec.name: 0.0 for spec in momenta if spec.metadata["bounds"].holds(0)}
    still = dataclasses.replace(optimizer, **off)
    shrinks = still.state_floats(SHAPES) != optimizer.state_floats(SHAPES)
    if still != optimizer and (shrinks or optimizer.name in optimizers.listed()):
        for framework in optimizer.frameworks():
            yield Row("no momentum", still, framework, SCHEDULES[2], MODES[framework])
    if optimizer.name == "adam":
        for framework, mode in (("jax", "vmap"), ("jax", "map"), ("torch", "ensemble")):
            yield Row(mode, optimizer, framework, "cosine", mode, 3, Leaves(varied=True))
    if optimizer.name == "kron":
        diagonal = dataclasses.replace(optimizer, memory_save_mode="all_diag")
        yield Row("vmap", diagonal, "jax", "linear", "vmap", 3, Leaves(varied=True))
        for framework, mode in MODES.items():
            yield Row("large", optimizer, framework, "linear", mode, task=Leaves(large=True))


def options(optimizer: Optimizer) -> Iterator[tuple[str, Optimizer]]:
    """The defaults; all numbers moved; then one row for each further alternative of the options with choices."""
    yield "defaults", optimizer
    if isinstance(optimizer, Foreign):
        yield from foreign_options(optimizer)
        return
    numbers, choices = {}, {}
    for spec in dataclasses.fields(optimizer):
        value, kinds = getattr(optimizer, spec.name), spec.metadata.get("choices")
        if kinds is not None or isinstance(value, bool):
            choices[spec.name] = [kind for kind in kinds or (True, False) if kind != value]
        elif "int" in str(spec.type) or "float" in str(spec.type):
            numbers[spec.name] = moved(spec, value)
    if numbers:
        yield "numbers", dataclasses.replace(optimizer, **numbers)
    swept = optimizer.swept()
    rate = {name: value for name, value in numbers.items() if swept and name == swept.name}
    for i in range(max(map(len, choices.values()), default=0)):
        turned = {name: kinds[i] for name, kinds in choices.items() if i < len(kinds)}
        turned |= STEADY.get(optimizer.name, {})
        try:
            yield f"choices{i + 1}", dataclasses.replace(optimizer, **rate, **turned)
        except UserError:  # an option that needs another one, such as Nesterov's form of a momentum
            yield f"choices{i + 1}", dataclasses.replace(optimizer, **numbers, **turned)


def foreign_options(optimizer: Foreign) -> Iterator[tuple[str, Optimizer]]:
    """The same from the signature of a factory or class: its numbers moved, its switches turned."""
    known, given = parameters(resolve(optimizer.target)), dict(optimizer.options)
    free = {name: each.default for name, each in known.items() if name not in GIVEN and name not in given}
    switches = {name: not value for name, value in free.items() if isinstance(value, bool)}
    floats = {name: moved_float(value) for name, value in free.items() if isinstance(value, float)}
    for name, changes in (("numbers", floats), ("switches", switches)):
        if changes:
            merged = tuple(sorted((given | changes).items()))
            yield name, dataclasses.replace(optimizer, options=merged)


def moved(spec: dataclasses.Field, value: Any) -> Any:
    """Another value of a number, one that matters within a few steps of a tiny tree."""
    bounds = spec.metadata.get("bounds")
    if spec.metadata.get("sweep"):
        return 0.3 * math.sqrt(math.prod(spec.metadata["sweep"])) * 10
    if value is None:
        tries: tuple[Any, ...] = (0.4, 0.7, 2.0) if "float" in str(spec.type) else (4, 1)
    elif "float" not in str(spec.type):
        first = 4 if value > 32 else value // 2 + 1 if value > 4 else value + 1
        tries = (first, value + 1, value - 1)
    else:
        tries = (moved_float(value), value * 2, value / 2)
    return next((each for each in tries if each != value and (bounds is None or bounds.holds(each))), value)


def moved_float(value: float) -> float:
    if value == 0:
        return 0.1
    if abs(value) < 0.01:
        return 0.03
    return (value + 0.5) / 2 if 0.5 < value < 1 else value * 0.75
