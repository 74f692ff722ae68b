"""Another task with other names for its parameters and other seeds: what is measured must not depend on either.

Parameters are called p00, p01, .. in the order of their own names, so that an optimizer that goes through them in that
order does the same arithmetic. `salt` moves the seeds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from optbench import origin
from optbench.fields import UserError
from optbench.task import Arrays, Functions, Task

SEEDS = 100_000
"""Between the seeds of two salts."""
SIZES = ("width", "units", "dim")
"""Fields of tasks that may have any size."""


@dataclass(frozen=True, kw_only=True)
class Renamed(Task):
    __doc__ = __doc__

    inner: Task
    salt: int = 0

    def spec(self) -> dict[str, Any]:
        """With that of the inner task, and a digest of its source: rows of a renamed task are of its code too."""
        inner, module = self.inner.spec(), type(self.inner).__module__
        code = inner.get("code") or origin.digest_of(origin.closure([module], lambda name: name == module))
        return {"name": self.name, "salt": self.salt, "inner": inner, "code": code}

    def made_of(self) -> tuple[Any, ...]:
        return (Renamed, *self.inner.made_of())

    def label(self) -> str:
        return f"hidden {self.inner.label()}" if self.salt else f"renamed {self.inner.label()}"

    def names(self) -> dict[str, str]:
        """Each own name and the new one, in the inner task's order."""
        first = self.inner.init(0)
        new = {name: f"p{i:02d}" for i, name in enumerate(sorted(first))}
        return {name: new[name] for name in first}

    def init(self, seed: int) -> dict[str, Any]:
        first = self.inner.init(seed + SEEDS * self.salt)
        return {new: first[name] for name, new in self.names().items()}

    def roles(self) -> dict[str, str]:
        names = self.names()
        return {names[name]: role for name, role in self.inner.roles().items()}

    def draws(self, seed: int, start: int, stop: int) -> dict[str, Any]:
        return self.inner.draws(seed + SEEDS * self.salt, start, stop)

    def jax(self) -> Functions:
        return self.over(self.inner.jax())

    def torch(self) -> Functions:
        return self.over(self.inner.torch())

    def over(self, inner: Functions) -> Functions:
        """The inner functions of renamed parameters."""
        names = self.names()

        def own(params: Arrays) -> dict[str, Any]:
            return {name: params[new] for name, new in names.items()}

        return Functions(
            lambda params, data, draw: inner.loss(own(params), data, draw),
            lambda params, data: inner.evaluate(own(params), data),
        )


# All else is what the inner task says.
for _name in set(vars(Task)) - set(vars(Renamed)) - {"kind", "plain"}:
    if not _name.startswith("_"):
        setattr(Renamed, _name, property(lambda self, name=_name: getattr(self.inner, name)))


def hidden(task: Task, use: int) -> Renamed:
    """A task of the same kind that no earlier use has shown: other seeds, sizes and names, another rotation."""
    fields = {spec.name: getattr(task, spec.name) for spec in dataclasses.fields(task)}
    changed = {name: fields[name] + fields[name] // 4 + use for name in SIZES if name in fields}
    if fields.get("rotation") is not None:
        changed["rotation"] = fields["rotation"] + use
    try:
        inner = task.replace(**changed)
    except UserError:  # where other fields fix the sizes
        inner = task
    return Renamed(inner=inner, salt=use)
