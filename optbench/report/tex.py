"""table.tex: the comparison for a paper as two tabulars, in the style of the booktabs package."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence

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


def table(content: Content) -> str:
    """Two tabulars, of results and of costs, with a group of rows for each problem; who leads is bold."""
    head = [
        comment("Needs the package booktabs. Bold: leads its problem, alone or tied. Written by:"),
        *map(comment, content.commands),
    ]
    parts = ["\n".join([comment(name), *tabular(content, columns)]) for name, columns in TABLES.items()]
    return "\n".join([*head, "\n\n\\bigskip\n".join(parts), ""])


def tabular(content: Content, columns: Sequence[str]) -> list[str]:
    shown = main(content)
    places = [shown.header.index(name) for name in columns]
    leaders = {each.name: set(each.leaders) if each.contested else set() for each in content.verdicts}
    lines = [
        r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}\noindent",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(columns) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(escape(name).replace("us/", r"$\mu$s/") for name in columns) + r" \\",
    ]
    before = None
    for row in shown.rows:
        problem, name = row[0], row[1].removesuffix(MARK)
        if problem != before:
            lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{escape(problem)}}}}} \\"]
            before = problem
        first, *rest = (escape(row[place]) for place in places)
        lines.append(
            " & ".join([rf"\textbf{{{first}}}" if name in leaders[problem] else first, *rest]) + r" \\"
        )
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
    most: int,
    bold: Sequence[bool] = (),
) -> Iterator[str]:
    """Rows as tables of a page, no wider than the text: one that would be is shrunk to it."""
    for start in range(0, len(rows), most):
        lines = [
            " & ".join(rf"\textbf{{{escape(cell)}}}" if k == 0 and any(bold[at : at + 1]) else escape(cell)
                       for k, cell in enumerate(row)) + r" \\"
            for at, row in enumerate(rows[start : start + most], start)
        ]  # fmt: skip
        more = "" if start == 0 else " (continued)"
        yield "\n".join([
            r"\begin{table}[htbp]\centering\small", rf"\caption{{{text(caption + more)}}}",
            r"\sbox0{%", rf"\begin{{tabular}}{{@{{}}{'l' * left}{'r' * (len(header) - left)}@{{}}}}", r"\toprule",
            " & ".join(map(escape, header)) + r" \\", r"\midrule", *lines, r"\bottomrule", r"\end{tabular}}%",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi", r"\end{table}",
        ])  # fmt: skip
