"""index.html: a report as one file that needs no network. What is written about comes before what draws it."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps

from optbench.report import charts, compare, content, tables
from optbench.report.compare import Comparison, Move, change, texts
from optbench.report.content import Content
from optbench.report.documents import INTRODUCTION, TITLE, Told, counts
from optbench.report.look import COLOURS, looks
from optbench.report.paths import Terrain
from optbench.report.reproduce import environment
from optbench.report.standing import SPOKEN, Standing
from optbench.report.vega import library
from optbench.stats.verdict import Verdict, measured
from optbench.wording import count, interval, number, spoken, value

NOTHING: Mapping[str, bytes] = MappingProxyType({})
ZERO = 3.0
"""Where a strip shows its least value, or zero, which has no place on a log axis: the others then keep away."""
GONE = 98.0
"""Where a strip shows what is infinite."""
PARTS = 4
"""A curve's numbers are tabled at its start, its end, and in as many equal parts."""


def page(told: Content, drawn: Mapping[str, bytes] = NOTHING) -> bytes:
    """The page; `drawn` holds figures by path, of which it takes those of the claims."""
    data = told.charts
    text = templates().get_template("page.html").render(
        told=told, words=content, looks=dict(zip(told.optimizers, data["optimizers"], strict=True)),
        colours=COLOURS, strips=strips, gone=GONE, measured=measured, spoken=spoken, setting=content.setting,
        numbers=numbers, rates=rates, ends=ends, tables=tables, axes=SPOKEN, places=places,
        facts=facts(told), data=json(data), library=library(), claims=told.claims, counts=counts(told.claims),
        introduction=INTRODUCTION, picture=functools.partial(embedded, drawn),
    )  # fmt: skip
    return (text + "\n").encode()


def claims_page(told: Sequence[Told], drawn: Mapping[str, bytes], command: str) -> bytes:
    """The page of `optbench claims --out`; `drawn` holds figures by path."""
    text = templates().get_template("claims.html").render(
        question=TITLE, introduction=INTRODUCTION, claims=told, counts=counts(told), colours=COLOURS, command=command,
        picture=functools.partial(embedded, drawn),
    )  # fmt: skip
    return (text + "\n").encode()


def embedded(drawn: Mapping[str, bytes], name: str) -> str:
    """A figure as the address of itself."""
    svg = drawn[f"figures/{name}.svg"]
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


@functools.cache
def templates() -> jinja2.Environment:
    """The templates; whatever a name holds, it is text."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("optbench.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip


def json(data: Any) -> str:
    """JSON that no text in it can end."""
    return htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False)


def facts(told: Content) -> list[str]:
    """The page in a line."""
    summary = told.summary
    counts = {
        "problem": len(told.problems),
        "optimizer": len(told.optimizers),
        "cell": int(summary["lanes"].sum()),
    }
    return [count(many, name) for name, many in counts.items()] + [
        told.environment["device"].partition(";")[0],
        told.environment["dates"].rpartition(" to ")[2].partition(" ")[0],
    ]


def comparison(found: Comparison) -> bytes:
    """The page of `--compare`."""
    names = {each.optimizer for each in found.moves}
    ends, bars = ratios(found)
    text = templates().get_template("compare.html").render(
        found=found, suite=found.selection.own.name, colours=COLOURS, change=change, bars=bars,
        looks={name: charts.appearance(name, look) for name, look in looks(names).items()},
        ends=[f"{end:.3g}" for end in ends], header=compare.HEADER, rows=[texts(each) for each in found.moves],
        environments=[(name, environment(rows)) for name, rows in zip(found.names, found.sides, strict=True)],
        command=found.command,
    )  # fmt: skip
    return (text + "\n").encode()


def ratios(found: Comparison) -> tuple[tuple[float, float], list[tuple[Move, str, str, str]]]:
    """The ends of a log axis around 1, and each move with the places of its interval in percent of it."""
    logs = [math.log(v) for each in found.moves for v in each.ratio if math.isfinite(v) and v > 0]
    far = max(math.log(1.1), *map(abs, logs))

    def place(ratio: float) -> str:
        at = -far if ratio <= 0 else far if not math.isfinite(ratio) else math.log(ratio)
        return f"{50 + 47 * at / far:.1f}"

    bars = [(each, place(each.ratio[1]), place(each.ratio[0]), place(each.ratio[2])) for each in found.moves]
    return (math.exp(-far), math.exp(far)), bars


def strips(verdict: Verdict) -> list[dict[str, Any]]:
    """The compared numbers, best first, with the places of median and interval in percent of a log axis."""
    values = [row[key] for row in verdict.rows for key in ("low", "middle", "high")]
    known = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    low, high = math.log(min(known)), math.log(max(known))
    room = max(high - low, 0.1)
    start = ZERO + 15 if min(values) <= 0 else ZERO

    def place(value: float) -> float:
        if not math.isfinite(value):
            return GONE
        return ZERO if value <= 0 else start + (95 - start) * (math.log(value) - low) / room

    return [
        {**row, **{f"{key}_at": place(row[key]) for key in ("low", "middle", "high")}, "text": measured(row)}
        for row in verdict.rows
    ]


def places(standing: Standing) -> list[dict[str, Any]]:
    """Mean ranks with their places in percent of the axis, and which part of each clique's bracket a row has."""
    last = max(1, len(standing.ranks) - 1)
    keys = ("rank", "low", "high", "low_tasks", "high_tasks")
    brackets = [names for names in standing.cliques if len(names) > 1]
    found = []
    for row in standing.ranks.to_dict("records"):
        at = {f"{key}_at": f"{3 + 94 * (row[key] - 1) / last:.1f}" for key in keys}
        inside = [bracket(row["optimizer"], names) for names in brackets]
        found.append({**row, **at, "cliques": inside, "text": interval(row["rank"], row["low"], row["high"])})
    return found


def bracket(name: str, names: list[str]) -> str:
    """The part of a bracket over neighbours that is beside a row."""
    if name not in names:
        return "out"
    return {0: "first", len(names) - 1: "last"}.get(names.index(name), "inside")


def numbers(told: Content, place: int, metric: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """A curve's medians at a few steps: header and rows."""
    problem = told.problems[place]
    curves = {name: curve for name, curve in problem.curves(metric).items() if len(curve)}
    last = int(max((curve["step"].max() for curve in curves.values()), default=0))
    steps = [round(last * part / PARTS) for part in range(PARTS + 1)]
    rows = []
    for name, curve in curves.items():
        at = [curve[curve["step"] <= step].iloc[-1] for step in steps]
        texts = [value(metric, row["middle"]) for row in at]
        rows.append((name, *texts))
    return ["optimizer", *(f"step {step:,}" for step in steps)], rows


def rates(told: Content, place: int) -> tuple[list[str], list[tuple[str, ...]]]:
    """The final medians at every learning rate: header and rows."""
    problem = told.problems[place]
    metric = problem.question.selection
    rows = [
        (name, number(row["trial"]), *(value(metric, row[end]) for end in ("middle", "low", "high")),
         f"{row['lost']}/{row['lanes']}")
        for name, table in problem.sensitivities.items() for row in table.to_dict("records")
    ]  # fmt: skip
    return ["optimizer", "learning rate", "median", "low", "high", "lost"], rows


def ends(terrain: Terrain) -> list[tuple[str, ...]]:
    """Where each path ends."""
    return [
        (path.optimizer, "-" if path.trial is None else number(path.trial), f"{len(path.points) - 1:,}",
         number(float(terrain.surface.height(*path.points[-1]))), str(path.status))
        for path in terrain.paths
    ]  # fmt: skip
