"""table.tex: the comparison for a paper as two tabulars, in the style of the booktabs package."""

from __future__ import annotations

import itertools
import operator
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence

from optbench.report.content import Content
from optbench.report.panels.verdict import main
from optbench.stats.provenance import MARK

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}", "≥": r"$\geq$", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}", "†": r"\dag{}", "×": r"$\times$", "±": r"$\pm$", "−": "--", "–": "--", "’": "'",
}  # fmt: skip
"""Characters that LaTeX does not print as they are; brackets too, which after a line break are an option."""
TABLES = {
    "results": ("optimizer", "best lr", "final loss", "test"),
    "costs": ("optimizer", "steps", "to final", "decades", "us/step", "state/param"),
}
"""Two tables, since one is wider than the text of a page; each fits the 345 pt of the class article."""
LINES = 40
"""Rows of one table of a paper: what fits a page."""


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line; of letters that it lacks the base, or their number."""
    return "".join(printed(character) for character in " ".join(text.split()))


def printed(character: str) -> str:
    if character.isascii() or character in SPECIAL:
        return SPECIAL.get(character, character)
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(SPECIAL.get(each, each) for each in plain) or f"U+{ord(character):04X}"


def comment(text: str) -> str:
    return f"% {' '.join(text.split())}"


def line(cells: Iterable[str], bold: bool = False) -> str:
    """A row of a tabular, whose first cell may be bold."""
    first, *rest = map(escape, cells)
    return " & ".join([rf"\textbf{{{first}}}" if bold else first, *rest]) + r" \\"


def by_problem(content: Content, columns: Sequence[str]) -> Iterator[tuple[str, list[list[str]], list[bool]]]:
    """Of each problem its rows of the comparison, and which of them leads, alone or tied, and is bold."""
    shown = main(content)
    places = [shown.header.index(name) for name in columns]
    leaders = {(each.name, name) for each in content.verdicts if each.contested for name in each.leaders}
    for problem, rows in itertools.groupby(shown.rows, key=operator.itemgetter(0)):
        own = [*rows]
        bold = [(problem, row[1].removesuffix(MARK)) in leaders for row in own]
        yield problem, [[row[place] for place in places] for row in own], bold


def table(content: Content) -> str:
    """Two tabulars, of results and of costs, with a group of rows for each problem; who leads is bold."""
    needs = "Needs the package booktabs. Bold: leads its problem, alone or tied. Written by:"
    parts = ["\n".join([comment(name), *tabular(content, columns)]) for name, columns in TABLES.items()]
    return "\n".join([*map(comment, [needs, *content.commands]), "\n\n\\bigskip\n".join(parts), ""])


def tabular(content: Content, columns: Sequence[str]) -> list[str]:
    lines = [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}\noindent",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(columns) - 1)}@{{}}}}",
        r"\toprule",
        line(columns).replace("us/", r"$\mu$s/"),
    ]
    for problem, rows, bold in by_problem(content, columns):
        lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escape(problem)}}}}} \\"]
        lines += map(line, rows, bold)
    return [*lines, r"\bottomrule", r"\end{tabular}\endgroup"]


# --- parts of a paper ---------------------------------------------------------------------------------------

DOCUMENT = r"""\documentclass[10pt]{article}
%(written)s
\usepackage{booktabs,graphicx}
\usepackage[textwidth=%(width)sin,textheight=9in,centering]{geometry}
\setlength{\emergencystretch}{4em}
\setlength{\belowcaptionskip}{4pt}
\tolerance=9999
\hbadness=10000
\begin{document}
\section*{%(title)s}
%(body)s
\end{document}
"""


def text(words: str) -> str:
    """A paragraph, whose long names may break after a comma, an underscore or a bracket."""
    escaped = escape(words)
    for sign in (",", r"\_", "{[}", "{]}", "/", "="):
        escaped = escaped.replace(sign, sign + r"\allowbreak{}")
    return escaped.replace("--", "-{}-")


def items(lines: Sequence[str]) -> str:
    inside = "\n".join(rf"\item {text(line)}" for line in lines)
    return f"\\begin{{itemize}}\n{inside}\n\\end{{itemize}}" if lines else ""


def included(files: Collection[str], name: str) -> str:
    """A file of tables, if there is one; a page of its own, so that they do not pile up."""
    return rf"\input{{tables/{name}}}\clearpage" if f"tables/{name}.tex" in files else ""


def tables(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    left: int,
    most: int = LINES,
    bold: Sequence[bool] = (),
) -> Iterator[str]:
    """Rows as tables of a page, no wider than the text: one that would be is shrunk to it."""
    lines = list(map(line, rows, bold or itertools.repeat(False)))
    for start in range(0, len(rows), most):
        more = "" if start == 0 else " (continued)"
        yield "\n".join([
            r"\begin{table}[htbp]\centering\small", rf"\caption{{{text(caption + more)}}}",
            r"\sbox0{%", rf"\begin{{tabular}}{{@{{}}{'l' * left}{'r' * (len(header) - left)}@{{}}}}", r"\toprule",
            line(header), r"\midrule", *lines[start : start + most], r"\bottomrule", r"\end{tabular}}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi", r"\end{table}",
        ])  # fmt: skip
