"""`optbench paper`: a report's figures and tables for a venue, with ablations and an appendix, in one folder."""

from __future__ import annotations

import inspect
import io
import json
import shlex
import textwrap
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from optbench.fields import UserError, nearest
from optbench.report import resolve, tex
from optbench.report.ablation import Effect, ablations
from optbench.report.content import Content
from optbench.report.figures import STYLE
from optbench.report.folder import save
from optbench.report.panels import standings
from optbench.report.panels.verdict import overview
from optbench.report.selection import Selection
from optbench.stats.outcomes import chosen, trying
from optbench.stats.profiles import published
from optbench.store import Store
from optbench.wording import count, interval, number

FONTS = {"serif": ["STIXGeneral", "DejaVu Sans"], "sans-serif": ["DejaVu Sans"]}
"""Fonts that matplotlib brings, for those of a bundle, which need not be installed; the last has every sign."""
HEIGHT, ROW = 8.2, 1.62
"""Inches: of a page's figure, and of a problem's row in it."""
SHOWN = ("optimizer", "best lr", "final loss", "test", "steps", "seeds")
POINT = 72.27
"""TeX's points to the inch."""
LETTER = 4.3
"""Points of a letter of commands."""


def write_paper(
    selection: Selection,
    out: str,
    venue: str,
    without: Sequence[str] | None = None,
    allow_unequal: bool = False,
) -> tuple[int, dict[str, Any]]:
    """Write the folder; returns the exit code and what `--json` prints.

    Raises:
        UserError: tueplots or the venue is missing, no stored row matches, or the folder cannot be written to.
    """
    style = bundle(venue)
    width = style["figure.figsize"][0]
    store = Store(selection.results)
    content = Content.of(selection, store, allow_unequal)
    off = None if without is None else [part for text in without for part in text.split(",")]
    effects, ran, missing = ablations(content, store, off)
    with mpl.rc_context(style):  # pyright: ignore[reportArgumentType]
        figures = {f"figures/{name}.pdf": pdf(figure) for name, figure in drawn(content, width)}
    groups = {
        "results": list(results(content)), "ablation": list(ablation(effects)),
        "hyperparameters": list(hyperparameters(content)),
    }  # fmt: skip
    command = content.report_command.replace("report", f"paper --venue {shlex.quote(venue)}", 1)
    command += f" --without {shlex.quote(','.join(without))}" if without else ""
    commands = [*content.commands[:-1], *ran, *missing, command]
    files = {f"tables/{name}.tex": ("\n".join(each) + "\n").encode() for name, each in groups.items() if each}
    files["commands.sh"] = ("\n".join(["set -e", *commands]) + "\n").encode()
    files["main.tex"] = document(content, width, {**figures, **files}, bool(missing), commands).encode()
    save(Path(out), {**figures, **files})
    parts = f"{count(len(figures), 'figure')}, {count(sum(map(len, groups.values())), 'table')}"
    print(
        f"Wrote {Path(out) / 'main.tex'} at the text width of {venue}, {width:.2f} in: {parts}. "
        f"Compile it: cd {shlex.quote(out)} && pdflatex main"
    )
    if missing:
        print("Ablations that are not stored are computed by:\n" + "\n".join(missing))
    return 0, {"folder": out, "files": sorted([*figures, *files]), "venue": venue, "width": width,
               "ablations": [each._asdict() for each in effects], "missing": missing}  # fmt: skip


def bundle(venue: str) -> dict[str, Any]:
    """The style of figures for a venue, over the report's own; UserError if tueplots has none."""
    try:
        from tueplots import bundles
    except ModuleNotFoundError:
        raise UserError(
            "optbench paper needs the package tueplots. Install it: pip install 'optbench[paper]'"
        ) from None
    known = {
        name: each for name, each in vars(bundles).items() if inspect.isfunction(each) and name[0] != "_"
    }
    if venue not in known:
        raise UserError(f"--venue {venue!r} is not known. {nearest(venue, known)}")
    options = {"column": "full", "usetex": False}
    taken = inspect.signature(known[venue]).parameters
    given = known[venue](**{name: value for name, value in options.items() if name in taken})
    family = FONTS["sans-serif" if "sans" in str(given.get("font.family")) else "serif"]
    sizes = {name: value for name, value in given.items() if "size" in name and name != "figure.figsize"}
    own = {"font.family": family, "mathtext.fontset": "stix", "pdf.fonttype": 42}
    return {**STYLE, **sizes, **own, "figure.figsize": given["figure.figsize"]}


def drawn(content: Content, width: float) -> Iterator[tuple[str, Figure]]:
    """Curves and final values by learning rate of a few problems a figure; profiles and ranks where there are some."""
    rows = min(5, max(1, int((HEIGHT - 0.6 - 0.1 * len(content.optimizers)) / ROW)))
    timed = published(content.stored)[0] == "algoperf"  # AlgoPerf's times have no curves
    for page, start in enumerate(range(0, 0 if timed else len(content.problems), rows), 1):
        yield f"curves-{page}", overview(content, width, slice(start, start + rows))
    lines = standings.data(content)
    if "steps" in lines:
        yield "ranks", standings.draw(content, lines["steps"], width)


def pdf(figure: Figure) -> bytes:
    """Without a date, so that the same results give the same bytes."""
    buffer, facts = io.BytesIO(), {"CreationDate": None, "Creator": "optbench", "Producer": None}
    figure.savefig(buffer, format="pdf", metadata=facts)
    return buffer.getvalue()


def results(content: Content) -> Iterator[str]:
    """The comparison, a table for each problem; who leads is bold."""
    for problem, rows, bold in tex.by_problem(content, SHOWN):
        caption = f"Results on {problem}. Bold: leads, alone or tied."
        yield from tex.tables(SHOWN, rows, caption, 1, bold=bold)


def ablation(effects: Sequence[Effect]) -> Iterator[str]:
    rows = [
        [*each[:3], interval(each.ratio, each.low, each.high), str(each.seeds), each.verdict]
        for each in effects
    ]
    header = ("optimizer", "without", "task", "loss ratio", "seeds", "the part")
    caption = (
        "Each part switched off and the learning rate tuned again: the ratio of the losses without and with it, paired "
        "by seed, with the interval of a confidence sequence (95 %). Equivalent: within 1 %."
    )
    yield from tex.tables(header, rows, caption, 3)


def hyperparameters(content: Content) -> Iterator[str]:
    """What was searched and what was chosen, for each optimizer and task."""
    rows = []
    for problem in content.problems:
        for name, own in problem.optimizers.items():
            tried = [json.loads(spec)["optimizer"] for spec in trying(own)["spec"]]
            best = json.loads(chosen(own)["spec"].iloc[0])["optimizer"]
            listed = resolve.optimizer(name)
            declared = {} if listed is None else listed.searched()
            for key, value in best.items():
                different = len({str(spec.get(key)) for spec in tried})
                if different < 2:
                    continue
                values = [spec[key] for spec in tried if isinstance(spec.get(key), int | float)]
                span = f"{number(min(values))} to {number(max(values))}" if values else "-"
                searched = declared[key].text() if key in declared else span
                text = number(value) if isinstance(value, float) else str(value)
                rows.append([problem.name, name, key, searched, str(different), text])
    header = ("task", "optimizer", "hyperparameter", "searched", "values", "chosen")
    yield from tex.tables(header, rows, "Searched ranges, tried values and what was chosen.", 3)


def document(
    content: Content, width: float, files: Collection[str], missing: bool, commands: Sequence[str]
) -> str:
    """main.tex: everything, at the text width of the venue."""
    prose = [content.headline, content.standings["steps"].sentence, content.selected]
    captions = {"ranks": "Performance profiles, runtime distributions and mean ranks, over steps."}
    curves = "Progress at the best learning rate (median over seeds, its interval), and the final value at every one."
    pictures = [
        rf"\begin{{figure}}[htbp]\centering\includegraphics[width=\linewidth]{{{name}}}"
        rf"\caption{{{tex.text(captions.get(Path(name).stem, curves))}}}\end{{figure}}"
        for name in files
        if name.startswith("figures/")
    ]
    absent = "Optimizers without one of their parts are not stored yet; commands.sh computes them." * missing
    again = "These commands compute every row and write this document; commands.sh has them to run."
    sections = {
        "Results": [*map(tex.text, filter(None, prose)), *pictures, tex.included(files, "results")],
        "Limits": [tex.items(content.caveats)],
        "Ablation": [tex.text(absent), tex.included(files, "ablation")],
        "Hyperparameters": [tex.included(files, "hyperparameters")],
        "Reproduction": [tex.text(again), listing(commands, width)],
    }
    shown = ([rf"\section{{{title}}}", *parts] for title, parts in sections.items() if any(parts))
    body = "\n\n".join(text for parts in shown for text in parts if text)
    return tex.DOCUMENT % {
        "width": f"{width:.4f}", "written": tex.comment(commands[-1]), "title": tex.text(content.question),
        "body": body,
    }  # fmt: skip


def listing(commands: Sequence[str], width: float) -> str:
    """Commands as they are, on lines that fit; what TeX cannot print is written as Python escapes it."""
    room = int(width * POINT / LETTER) - 2
    printed = [each.encode("ascii", "backslashreplace").decode() for each in commands]
    wrapped = (textwrap.wrap(each, room, subsequent_indent="  ", break_on_hyphens=False) for each in printed)
    lines = "\n".join(" \\\n".join(lines) for lines in wrapped)
    return f"\\begin{{footnotesize}}\\begin{{verbatim}}\n{lines}\n\\end{{verbatim}}\\end{{footnotesize}}"
