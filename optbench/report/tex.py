"""table.tex: the comparison for a paper, in the style of the booktabs package."""

from __future__ import annotations

from optbench.report.content import Content
from optbench.report.panels.verdict import main
from optbench.stats.provenance import MARK

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}", "≥": r"$\geq$", "`": r"\textasciigrave{}",
    "[": "{[}", "]": "{]}",
}  # fmt: skip
"""Characters that LaTeX does not print as they are; brackets too, which after a line break are an option."""
SHOWN = ("optimizer", "best lr", "final loss", "test", "steps", "decades", "us/step", "state/param")


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(SPECIAL.get(character, character) for character in " ".join(text.split()))


def comment(text: str) -> str:
    return f"% {' '.join(text.split())}"


def table(content: Content) -> str:
    """A tabular with a group of rows for each problem; who leads is bold."""
    shown = main(content)
    places = [shown.header.index(name) for name in SHOWN]
    leaders = {each.name: set(each.leaders) if each.contested else set() for each in content.verdicts}
    lines = [
        comment("Needs the package booktabs. Bold: leads its problem, alone or tied. Written by:"),
        *map(comment, content.commands),
        rf"\begin{{tabular}}{{l{'r' * (len(SHOWN) - 1)}}}",
        r"\toprule",
        " & ".join(escape(name).replace("us/", r"$\mu$s/") for name in SHOWN) + r" \\",
    ]
    before = None
    for row in shown.rows:
        problem, name = row[0], row[1].removesuffix(MARK)
        if problem != before:
            lines += [r"\midrule", rf"\multicolumn{{{len(SHOWN)}}}{{l}}{{\emph{{{escape(problem)}}}}} \\"]
            before = problem
        first, *rest = (escape(row[place]) for place in places)
        lines.append(
            " & ".join([rf"\textbf{{{first}}}" if name in leaders[problem] else first, *rest]) + r" \\"
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
