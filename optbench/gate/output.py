"""What `optbench check` gives beside its lines: JUnit, a table in Markdown, and the command that writes new numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from optbench.gate.fingerprint import LAYERS, Difference


def update_command(**given: str | None) -> str:
    """The `optbench check` that writes the numbers that these options name."""
    words = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    return shlex.join(["optbench", "check", *words, "--update"])


def absent(path: Path, **given: str | None) -> str:
    return f"no baselines at {str(path)!r}. Write them with: {update_command(**given)}"


def write_junit(path: Path, names: Sequence[str], found: Sequence[Difference]) -> None:
    """A test case for each layer and optimizer."""
    cases = []
    for layer in LAYERS:
        for name in sorted({*names, *(each.optimizer for each in found)}):
            own = [each for each in found if (each.layer, each.optimizer) == (layer, name)]
            marks = [("failure", f"{each.row} in {each.framework}: {each.sentence}") for each in own]
            cases.append((f"optbench.{layer}", name, marks))
    write_cases(path, "optbench check", cases)


def write_cases(path: Path, name: str, cases: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]) -> None:
    """Test cases of a class and a name, each with what is to be said of it: `failure` or `skipped`, and a sentence."""
    suite = ElementTree.Element("testsuite", name=name, tests=str(len(cases)))
    for group, each, marks in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=group, name=each)
        for kind, sentence in marks:
            ElementTree.SubElement(case, kind, message=sentence).text = sentence
    kinds = [kind for _, _, marks in cases for kind, _ in marks]
    suite.attrib |= {"failures": str(kinds.count("failure")), "skipped": str(kinds.count("skipped"))}
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(path, encoding="unicode", xml_declaration=True)


def append_summary(path: Path, names: Sequence[str], found: Sequence[Difference]) -> None:
    """A table of what differs, at the end of a file such as GITHUB_STEP_SUMMARY."""
    lines = ["### optbench check", ""]
    if found:
        cells = [tuple(str(part).replace("|", "\\|") for part in each) for each in found]
        lines += ["| layer | optimizer | framework | row | difference |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(cell)} |" for cell in cells]
    else:
        lines.append(f"No difference: {', '.join(names)}.")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
