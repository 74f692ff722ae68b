"""How numbers, intervals, counts, lists and tables of text are written, everywhere."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

MOST = 6
"""The most significant digits shown."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula; behind an apostrophe it is text."""


def inert(value: Any) -> Any:
    """A value of a table, of which a spreadsheet computes nothing."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def number(value: float, digits: int = 3, lost: str = "-") -> str:
    """`1.2e-8`: few digits, no zeros of an exponent; whole numbers in full up to a million; `lost` if not finite."""
    if not math.isfinite(value):
        return lost
    text = f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return text.replace("e-0", "e-").replace("e+0", "e")


def interval(
    point: float,
    low: float,
    high: float,
    *,
    percent: bool = False,
    digits: int = 3,
    lost: str = "failed",
    beside: float = math.nan,
) -> str:
    """`1.9967 [1.985, 2.026]`: ends to two digits of the width, rounded outward, and the point to one more.

    The point alone, in `digits` digits, where there is no interval; `lost` for what is not finite. An end that is not
    `beside` has the digits that show it.
    """
    if not math.isfinite(point):
        return lost
    point, low, high = (100 * value if percent else value for value in (point, low, high))
    sign = "%" * percent
    if low == high:
        return (f"{point:.1f}" if percent and digits <= 3 else number(point, digits)) + sign
    width = exponent(high - low) - 1 if math.isfinite(high - low) else MOST
    ends = [lost, lost]
    for i, end, toward in ((0, low, math.floor), (1, high, math.ceil)):
        for place in range(width, width - MOST, -1) if math.isfinite(end) else ():
            ends[i] = rounded(end, place, percent, toward)
            if end == beside or float(ends[i]) != beside:
                break
    least = min(width - 1, exponent(point) - 2) if math.isfinite(high - low) else exponent(point) - 2
    return f"{rounded(point, least, percent)}{sign} [{ends[0]}, {ends[1]}]"


def rounded(value: float, place: int, percent: bool = False, toward=round) -> str:
    """A value to a decimal place (-2 is hundredths), finer where that would leave it less than two digits."""
    first = exponent(value)
    place = min(place, first - 1, -1 if percent else place, 0 if abs(value) < 1e6 else place)
    place = max(place, first - MOST + 1)
    # Less than a billionth of a unit is what the division adds, and rounds nothing outward.
    found = float(f"{toward(round(value / 10.0**place, 6))}e{place}")
    return f"{found:.{-place}f}" if percent and place < 0 else number(found, MOST)


def exponent(value: float) -> int:
    """The power of ten of the first digit."""
    return max(math.floor(math.log10(abs(value))), -290) if value else 0


def digits_apart(values: Iterable[float], least: int = 3) -> int:
    """How many digits it takes to write different values differently."""
    known = {value for value in values if math.isfinite(value)}
    enough = (n for n in range(least, MOST + 1) if len({number(v, n) for v in known}) == len(known))
    return next(enough, MOST)


def whole(point: float, low: float, high: float) -> str:
    """`1,234 [1,200, never]`: a count of steps with its interval."""
    texts = [f"{value:,.0f}" if math.isfinite(value) else "never" for value in (point, low, high)]
    return texts[0] if low == high or texts[0] == "never" else f"{texts[0]} [{texts[1]}, {texts[2]}]"


def value(
    metric: str, point: float, low: float | None = None, high: float | None = None, digits: int = 3
) -> str:
    """A value of a metric, with its interval if there is one: an error in percent, a loss as it is."""
    ends = (point if end is None else end for end in (low, high))
    return interval(point, *ends, percent=metric.endswith("error"), digits=digits)


def p_value(p: float) -> str:
    """`p = 0.03`."""
    return f"p = {p:.2g}"


def spoken(metric: str) -> str:
    """`validation error` for `validation_error`."""
    return metric.replace("_", " ")


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def some(names: Sequence[str], last: str = "and", most: int = 5) -> str:
    """The same; of many the first ones, and how many more."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return listed(names, last)


def count(number: int, noun: str) -> str:
    """`1 seed`, `1,200 seeds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(label: str, width: int) -> str:
    """A label cut to a width: first what stands in its brackets."""
    if len(label) <= width:
        return label
    name, inside, after = around(label)
    room = width - len(name) - len(after) - 4
    return f"{name}[{inside[:room]}..]{after}" if inside and room >= 0 else f"{label[: width - 2]}.."


def around(label: str) -> tuple[str, str, str]:
    """What stands before the brackets of a label, in them, and after them, as in `adam[b1=0.5] (untuned)`."""
    name, _, rest = label.partition("[")
    inside, _, after = rest.rpartition("]")
    return name, inside, after


def shortened_apart(labels: Sequence[str], width: int) -> dict[str, str]:
    """Each label cut to a width; where cut texts would be the same, what differs in brackets stands first, or else the
    middle is left out.
    """
    alike: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        alike.setdefault(shortened(label, width), []).append(label)
    found = {}
    for text, same in alike.items():
        options = {label: around(label)[1].split(",") for label in same}
        for label, own in options.items():
            shared = {option for option in own if all(option in other for other in options.values())}
            first = sorted(own, key=lambda option: (option in shared, len(option)))
            name, _, after = around(label)
            several = f"{name}[{','.join(first)}]{after}"
            found[label] = shortened(several, width) if len(same) > 1 and "[" in label else text
    texts = Counter(found.values())
    half = width // 2
    ends = {label: f"{label[: half - 1]}..{label[half - width + 1 :]}" for label in found}
    return {label: text if texts[text] == 1 else ends[label] for label, text in found.items()}


def command_line(verb: str, **options: Any) -> str:
    """An optbench command line; without options that are None or the usual results folder; True has no value."""
    parts = []
    for name, value in options.items():
        if value is None or (name, value) == ("results", "results"):
            continue
        several = isinstance(value, Sequence) and not isinstance(value, str)
        text = ",".join(map(str, value)) if several else str(value)
        parts += [f"--{name}"] if value is True else [f"--{name}", text]
    return " ".join(["optbench", verb, *map(shlex.quote, parts)])


def columns(lines: Sequence[Sequence[str]], left: int = 2, gap: str = "  ") -> str:
    """Lines of texts under each other; the first `left` columns are aligned left, the others right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ways = [str.ljust if place < left else str.rjust for place in range(len(widths))]
    padded = ([way(text, wide) for way, text, wide in zip(ways, line, widths, strict=True)] for line in lines)
    return "\n".join(gap.join(line).rstrip() for line in padded)


def terminal_width() -> int:
    """Columns of the terminal, 80 if unknown."""
    import shutil

    return shutil.get_terminal_size((80, 24)).columns
