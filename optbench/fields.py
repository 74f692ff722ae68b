"""Names, hyperparameters and their ranges; parsing and validation of what a user typed."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self, TypeVar


class UserError(ValueError):
    """A request cannot be carried out; the message says what, what was given, and what to do next."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause 'did you mean a or b?' for a name that is not known."""
    import difflib

    if not (names := sorted(known)):
        return "There are none."
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(names)}." if len(names) <= 30 else f"There are {len(names)}."


def shortened(value: Any) -> str:
    """How Python writes a value that may be anything, in a line of a message."""
    try:
        text = repr(value)
    except Exception:  # a user's own repr
        text = f"something of type {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:80]}..."


def check_choice(owner: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise a UserError with the nearest names unless `value` is one of `allowed` or None."""
    if value is not None and value not in allowed:
        raise UserError(f"Unknown {owner} {value!r}. {nearest(str(value), allowed)}")


class Bounds(NamedTuple):
    """An interval such as `(0, inf)` or `[0, 1)`, written the way it is printed."""

    text: str

    def holds(self, value: float) -> bool:
        """Whether `value` is a number inside the interval."""
        low, high = (float(part) for part in self.text[1:-1].split(","))
        above = value >= low if self.text[0] == "[" else value > low
        below = value <= high if self.text[-1] == "]" else value < high
        return above and below and not math.isnan(value)


LEVELS = 4
"""Number of values a search tries of a hyperparameter whose every value costs a compilation."""


class Search(NamedTuple):
    """A range that trials are drawn from, on a log scale: of the number, or of one minus it (for decays)."""

    low: float
    high: float
    complement: bool = False

    def at(self, place: float, lane: bool) -> float:
        """The number at a point of [0, 1); one of `LEVELS` values, both ends included, if it is not a lane number."""
        if not lane:
            place = math.floor(place * LEVELS) / (LEVELS - 1)
        number = self.low * (self.high / self.low) ** place
        return float(f"{1 - number if self.complement else number:.4g}")

    def text(self) -> str:
        """`1e-4 to 1`, or `1 - (0.01 to 0.3)`."""
        span = f"{self.low:g} to {self.high:g}"
        return f"1 - ({span})" if self.complement else span


MOMENTUM = Search(0.01, 0.3, complement=True)
"""Search range for the decay of a momentum: 0.99 to 0.7."""
FROM_NONE = Search(0.01, 1.0, complement=True)
"""The same of a method whose default is no momentum: 0.99 to 0."""


def hyper(
    default: Any = dataclasses.MISSING,
    doc: str = "",
    *,
    bounds: str | None = None,
    choices: Sequence[Any] | None = None,
    lane: bool = False,
    sweep: tuple[float, float] | None = None,
    search: Search | None = None,
    decoupled: bool = False,
) -> Any:
    """A hyperparameter of an Optimizer or Task: a dataclass field that knows its range.

    `lane` marks a number that may differ between the lanes of one compiled program: unless it is 0 it is traced there,
    so it may not choose a branch, a structure or a cadence; that it is 0 may (`ranges.is_off`). `sweep` is the range,
    on a log scale, of the equal grid; every optimizer's has the same width. `search` is the range that random and
    quasi-random trials also draw it from; without it they leave it at its default. `decoupled` marks a weight decay
    beside the step, which wrappers of the step leave alone.
    """
    limits = {"bounds": Bounds(bounds) if bounds else None, "choices": tuple(choices) if choices else None}
    rest = {"lane": lane, "sweep": sweep, "search": search, "decoupled": decoupled}
    return field(default=default, metadata={"doc": doc, **limits, **rest})


@dataclass(frozen=True)
class Named:
    """A frozen dataclass with a name, hyperparameters that are checked, and a plain-data form."""

    name: ClassVar[str]
    kind: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = canonical(str(spec.type), getattr(self, spec.name))
            check_field(f"{self.kind} {self.name}", spec, value, self.see)
            object.__setattr__(self, spec.name, value)

    def __init_subclass__(cls, **facts: Any) -> None:
        """Class variables of a base may be given beside it: `class Lion(Method, arrays=1)`."""
        own = {name: value for name, value in facts.items() if hasattr(cls, name)}
        super().__init_subclass__(**{name: facts[name] for name in facts.keys() - own})
        for name, value in own.items():
            setattr(cls, name, value)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def spec(self) -> dict[str, Any]:
        """Name and every hyperparameter, as JSON data; of a class that a user wrote, its origin and code too."""
        if is_own(type(self)):
            self.check_hidden()
        fields = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return {"name": self.name, **fields, **provenance(type(self))}

    def check_hidden(self) -> None:
        """UserError where a user's class keeps what is no field of it: two of them would have one id."""
        hidden = getattr(self, "__dict__", {}).keys() - {spec.name for spec in dataclasses.fields(self)}
        kinds = {name: getattr(type(self), name, None) for name in sorted(hidden)}
        if hidden := [
            name for name, kind in kinds.items() if not isinstance(kind, functools.cached_property)
        ]:
            raise UserError(
                f"{self.kind} {self.name} keeps {', '.join(hidden)} outside of its fields, so that its results could "
                "not be told from others. Make it a @dataclass(frozen=True, kw_only=True) with a field for each."
            )

    def see(self) -> str:
        """Where its fields are described."""
        place = provenance(type(self)).get("origin", self.name)
        return "" if place.startswith("unnamed:") else f"See: optbench show {place}"

    def made_of(self) -> tuple[Any, ...]:
        """The classes or functions that a worker needs to make it again."""
        return (type(self),)

    def replace(self, **changes: Any) -> Self:
        known = [f.name for f in dataclasses.fields(self)]
        for key in changes:
            if key not in known:
                near = f"{nearest(key, known)} {self.see()}"
                raise UserError(f"{self.kind} {self.name} has no field {key!r}. {near}")
        return dataclasses.replace(self, **changes)

    def label(self) -> str:
        """A preset's name or its own, with the fields that differ: `kron[b1=0.95]`.

        The name that leaves the fewest fields to list; a preset applies only if all its fields match.
        """
        fields = [f for f in dataclasses.fields(self) if not f.metadata.get("sweep")]
        changed = {f.name: getattr(self, f.name) for f in fields if getattr(self, f.name) != f.default}
        base, rest = self.name, changed
        for name, preset in self.presets.items():
            left = {key: value for key, value in changed.items() if key not in preset}
            fits = all(getattr(self, key) == value for key, value in preset.items())
            if fits and (len(left) < len(rest) or not (left or rest)):
                base, rest = name, left
        return f"{base}[{','.join(f'{key}={value}' for key, value in rest.items())}]" if rest else base


def is_own(thing: Any) -> bool:
    """Whether a class or function is outside this package."""
    return thing.__module__.partition(".")[0] != "optbench"


def provenance(thing: Any) -> dict[str, str]:
    """Origin and code of a class or function outside this package; {} for this package's."""
    if not is_own(thing):
        return {}
    from optbench import origin

    return {"origin": origin.origin(thing), "code": origin.code(thing)}


def canonical(declared: str, value: Any) -> Any:
    """A number as its declared type: 1, 1.0 and True are equal, but must not give one thing two ids."""
    if isinstance(value, bool | str) or value is None:
        return value
    try:
        if "bool" in declared and value in (0, 1):
            return bool(value)
        if "int" in declared and value == int(value):
            return int(value)
        return float(value) + 0.0 if "float" in declared else value  # -0.0 becomes 0.0
    except (TypeError, ValueError, OverflowError):
        return value  # `check_field` says what is wrong with it


def check_field(owner: str, spec: dataclasses.Field, value: Any, see: Callable[[], str]) -> None:
    """Raise a UserError naming field, value and allowed range unless `value` fits the field."""
    bounds, choices = spec.metadata.get("bounds"), spec.metadata.get("choices")
    said = f"{owner}: {spec.name}={value!r}"
    if choices is not None and value not in choices:
        raise UserError(f"{said} is not one of {', '.join(map(repr, choices))}. {see()}")
    if bounds is None or value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{said} is not a number; it must lie in {bounds.text}. {see()}")
    if not bounds.holds(value):
        raise UserError(f"{said} is outside {bounds.text}. {see()}")
    if "int" in str(spec.type) and not isinstance(value, int):
        raise UserError(f"{said} is not a whole number; it must lie in {bounds.text}. {see()}")


def grid(low: float, high: float, count: int) -> list[float]:
    """`count` numbers evenly spaced on a log scale, to three digits, so that they read well."""
    if count == 1:
        return [float(f"{math.sqrt(low * high):.3g}")]
    ratio = math.log10(high / low) / (count - 1)
    return [float(f"{low * 10 ** (ratio * i):.3g}") for i in range(count)]


def digest(data: Any) -> str:
    """Twenty hex digits of the canonical JSON of `data`."""
    import hashlib

    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


# --- text to things: `name[field=value,...]` ---------------------------------------------------------------

N = TypeVar("N", bound=Named)


def split_brackets(text: str, separator: str = ",") -> list[str]:
    """Split where no bracket is open: 'kron[b1=0.9,b2=1],adam' -> two parts."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if depth < 0:
            break
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise UserError(f"the brackets of {text!r} do not match. Write name[field=value,field=value].")
    return [part.strip() for part in parts]


def name_and_fields(text: str) -> tuple[str, dict[str, str]]:
    """'kron[b1=0.9]' as ('kron', {'b1': '0.9'})."""
    name, bracket, rest = text.strip().partition("[")
    name = name.strip()
    if bracket and not rest.endswith("]"):
        raise UserError(f"the brackets of {text!r} do not match. Write {name}[field=value,field=value].")
    fields: dict[str, str] = {}
    for part in filter(None, split_brackets(rest[:-1])):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise UserError(f"{part!r} in {text!r} is not of the form field=value.")
        if key in fields:
            raise UserError(f"{text!r} sets {key} twice. Set it once.")
        fields[key] = value
    return name, fields


def from_text(kind: str, text: str, known: Mapping[str, N]) -> N:
    name, fields = name_and_fields(text)
    if name not in known:
        raise UserError(f"{kind} {name!r} is not known. {nearest(name, known)} See: optbench list {kind}s")
    thing = known[name]
    return thing.replace(**{key: value_of(thing, key, value) for key, value in fields.items()})


def value_of(thing: Named, name: str, text: str) -> Any:
    """The typed text of a field, converted to the field's declared type."""
    spec = next((f for f in dataclasses.fields(thing) if f.name == name), None)  # pyright: ignore
    if spec is None:
        return text  # `replace` names the neighbours
    allowed = str(spec.type)
    if text in ("None", "none") and "None" in allowed:
        return None
    if "bool" in allowed and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for word, convert in (("int", int), ("float", float)):
        if word in allowed:
            try:
                return convert(float(text)) if word == "int" and float(text).is_integer() else convert(text)
            except ValueError:
                continue
    if "str" in allowed:
        return text
    what = " or ".join(READ_AS.get(part.strip(), part.strip()) for part in allowed.split("|"))
    raise UserError(f"{thing.kind} {thing.name}: {name}={text!r} is not {what}. {thing.see()}")


READ_AS = {"int": "a whole number", "float": "a number", "bool": "True or False"}
