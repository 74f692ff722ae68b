"""What an optimizer is: a method with its hyperparameters, and the rule that it makes in each framework."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from optbench.fields import Named, Search, UserError, grid
from optbench.protocol import FRAMEWORKS, Rule, Setting, Shapes, size


@dataclass(frozen=True, kw_only=True)
class Optimizer(Named):
    """A method and its hyperparameters; builds its Rule for each framework it offers."""

    kind: ClassVar[str] = "optimizer"
    source: ClassVar[str] = ""
    order: ClassVar[int] = 1
    memory: ClassVar[str] = ""
    parity: ClassVar[bool] = True
    """Whether both frameworks give the same numbers up to rounding; where not, the page says why."""
    grows: ClassVar[bool] = False
    """Whether the state grows up to `state_floats` while it runs."""
    elementwise: ClassVar[bool] = False
    """Whether each number moves by the history of its own gradient alone, so that torch may step lanes stacked."""
    dense: ClassVar[bool] = False
    """Whether its state is quadratic in the number of parameters: for small problems only."""
    finds_step: ClassVar[bool] = False
    """Whether it finds its step size from a tiny first one, and needs some hundred steps for it."""
    proportional: ClassVar[bool] = True
    """Whether a schedule's factor at a step scales that step; where not, it enters as the equations say."""

    def modules(self) -> tuple[str, ...]:
        """The modules that its numbers come from."""
        return (type(self).__module__,)

    def jax(self, setting: Setting) -> Rule:
        """The rule in JAX; overridden by optimizers that offer it."""
        raise self.not_in("jax")

    def torch(self, setting: Setting) -> Rule:
        """The rule in PyTorch; overridden by optimizers that offer it."""
        raise self.not_in("torch")

    def not_in(self, framework: str) -> UserError:
        offered = ", ".join(self.frameworks())
        return UserError(f"optimizer {self.name} is not offered in {framework}; it is in {offered}.")

    def frameworks(self) -> tuple[str, ...]:
        return tuple(name for name in FRAMEWORKS if getattr(type(self), name) is not getattr(Optimizer, name))

    def state_floats(self, shapes: Shapes) -> int | None:
        """How many numbers of parameter-like state the method keeps; scalar counters are not counted.

        None: nobody knows before it has run; then the record has the measured bytes.
        """
        return None

    def flops(self, shapes: Shapes) -> float:
        """Floating-point operations of one step beyond the gradient, roughly; only the order of programs needs it."""
        known = self.state_floats(shapes)
        return 10.0 * (size(shapes) if known is None else known)

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
        return [self.replace(**{spec.name: value}) for value in grid(low, high, count)]

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
        """The trial at a place in the unit cube of the first of what is searched, as many as it has coordinates."""
        return dataclasses.replace(self, **self.drawn(place))

    def drawn(self, place: Sequence[float]) -> dict[str, float]:
        """The numbers there."""
        lanes, placed = self.lane_defaults(), zip(self.searched().items(), place, strict=False)
        return {name: search.at(where, name in lanes) for (name, search), where in placed}

    def lane_numbers(self) -> dict[str, float]:
        """The hyperparameters that are arguments of the compiled program; one that is 0 is part of its structure."""
        return {name: value for name in self.lane_defaults() if (value := getattr(self, name)) != 0}

    def lane_defaults(self) -> dict[str, Any]:
        """The defaults of what may be a lane number."""
        return {f.name: f.default for f in dataclasses.fields(self) if f.metadata.get("lane")}

    def at_defaults(self) -> Self:
        """With lane numbers at their defaults, unchecked: for a label only."""
        return self.bind(self.lane_defaults())

    def bind(self, numbers: Mapping[str, Any]) -> Self:
        """A copy that holds traced numbers. Not hashable, comparable or valid: for building a rule only."""
        bound = copy.copy(self)
        for key, value in numbers.items():
            object.__setattr__(bound, key, value)
        return bound
