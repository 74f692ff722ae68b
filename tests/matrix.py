"""The matrix of docs/conformance.md: `make conformance`, or `python -m tests.matrix kron,adam use,trees` for a part.

Runs `optbench vet --full` on every optimizer of the catalogue, or on some, and on some groups of checks; what is found
replaces the rows of those in docs/conformance.tsv, and the tables of the page are written from that file. The name of a
package stands for its optimizers in `OTHERS` (`pip install -e '.[matrix]'`).
"""

import csv
import os
import sys
from pathlib import Path

from optbench import catalogue, environment, optimizers
from optbench.conformance import findings, listed
from optbench.protocol import FRAMEWORKS

ROOT = Path(__file__).parent.parent
ROWS, PAGE = ROOT / "docs" / "conformance.tsv", ROOT / "docs" / "conformance.md"
OTHERS = {
    "pytorch_optimizer": "AdaBelief ADOPT AdEMAMix Adan CAME Kate Lamb LaProp Lion MARS NovoGrad Prodigy SOAP "
    "StableAdamW Tiger",
    "heavyball": "AdamW ADOPT LaProp Muon NAdam PSGDKron Scion SFAdamW SOAP SOLP",
}
MARKS = {True: "pass", False: "fail", None: "n/a"}
SIGNS = {"pass": "+", "fail": "**F**", "n/a": "-"}
START, END = "<!-- written by make conformance: from here -->", "<!-- to here -->"


def read() -> dict[tuple[str, str, str], tuple[str, str]]:
    if not ROWS.is_file():
        return {}
    with ROWS.open(newline="") as file:
        return {tuple(row[:3]): tuple(row[3:]) for row in csv.reader(file, delimiter="\t")}


def write(found) -> None:
    with ROWS.open("w", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerows([*key, *value] for key, value in sorted(found.items()))
    text = PAGE.read_text()
    before, after = text.split(START)[0], text.split(END)[1]
    PAGE.write_text(before + START + "\n\n" + tables(found) + "\n" + END + after)


def tables(found) -> str:
    """For each framework a row for each optimizer and a column for each check, and below it why one fails."""
    lines = []
    for framework in FRAMEWORKS:
        keys = [each.key for each in listed() if each.framework == framework]
        names = sorted({name for name, where, _ in found if where == framework})
        lines += [f"### {framework}", "", "| optimizer | " + " | ".join(short(key) for key in keys) + " |"]
        lines += ["|---" * (len(keys) + 1) + "|"]
        for name in names:
            cells = [SIGNS.get(found.get((name, framework, key), ("",))[0], " ") for key in keys]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += ["", f"Why one fails in {framework}:", ""]
        reasons: dict[tuple[str, str], list[str]] = {}
        for (name, where, key), (state, sentence) in sorted(found.items()):
            if where == framework and state == "fail":
                reasons.setdefault((key, sentence), []).append(name)
        lines += [
            f"- `{key}` ({', '.join(names)}): {sentence.replace('<', '&lt;').replace('[', '&#91;')}"
            for (key, sentence), names in reasons.items()
        ]
        lines.append("")
    return "\n".join(lines)


def short(key: str) -> str:
    return key.partition(".")[2].replace("_", " ")


def main(names: list[str], only: list[str]) -> None:
    found = read()
    if "heavyball" in names:  # its steps are compiled by inductor, for minutes each
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    listed_of = {name: [f"{name}:{each}" for each in OTHERS[name].split()] for name in OTHERS}
    wanted = [each for name in names or optimizers.names() for each in listed_of.get(name, [name])]
    things = [catalogue.optimizer(name) for name in wanted]
    for done, (job, (key, holds, sentence)) in enumerate(
        findings(things, only, FRAMEWORKS, min(2, len(environment.cores())))
    ):
        found[job.thing.label(), job.framework, key] = (MARKS[holds], " ".join(sentence.split()))
        if holds is False:
            print(job.thing.label(), job.framework, key, sentence, flush=True)
        if done % 50 == 0:
            write(found)
    write(found)


if __name__ == "__main__":
    given = [word.split(",") if word else [] for word in sys.argv[1:]]
    main(*[*given, [], []][:2])
