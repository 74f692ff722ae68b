"""Every command that optbench prints, typed: after a run with unusual options, and those that its messages advise."""

import re
import shlex

import tyro

from optbench.cli import REGISTRY, Command
from tests import messages

PRINTED = re.compile(r"optbench (?:run|report|check|claims|vet|list|show)\b[^\n`]*")
RUN = (
    "run --task 'quadratic[dim=5],rosenbrock_2' --opt 'adam,sgd[momentum=0.9]' --lr 0.01,0.001 --seeds 2 --steps 30 "
    "--schedule 'cosine[warmup=0.1]' --dtype float64 --results 'my results' --jobs 1"
)


def printed(text: str) -> list[str]:
    """The commands in a text, without what follows them in a sentence."""
    found = [command.group() for command in PRINTED.finditer(text)]
    ends = re.compile(r" +(?:\(|and |computes |to write |shows ).*|[.,;)]+$|\. .*")
    return [ends.sub("", command).removeprefix("optbench ").strip() for command in found]


def typed(command: str) -> tuple[int, str]:
    code, out, err = messages.said(command)
    return code, out + err


def test_what_a_run_and_its_report_print_can_be_typed_where_they_were(tmp_path, monkeypatch):
    """`Next` shows the same rows, and each `Reproduce` of the report finds every cell stored."""
    monkeypatch.chdir(tmp_path)
    code, text = typed(RUN)
    assert code == 0, text
    nexts = printed(text[text.index("Next:") :])
    assert len(nexts) == 2
    pages = []
    for command in nexts:
        code, out = typed(command + " --dry-run" * command.startswith("run "))
        assert code == 0, (command, out)
        pages += [tmp_path / path for path in re.findall(r"Wrote (\S+)/index.html", out)]
        nexts += printed(out.partition("Next:")[2])
    page = (pages[0] / "index.md").read_text()
    for name in ("quadratic[dim=5]", "rosenbrock_2", "sgd[momentum=0.9]"):
        assert name in page
    reproduced = [c for c in printed(page.partition("## Reproduce")[2]) if c.startswith("run ")]
    assert reproduced
    for command in reproduced:
        code, out = typed(f"{command} --dry-run")
        assert code == 0, (command, out)
        assert "nothing to compute" in out, command


def test_what_is_printed_of_one_framework_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for chosen in ("--opt adam --seeds 5", "--opt torch:NAdam --framework torch --seeds 1"):
        assert typed(f"run --task zipf --lr 0.01 --steps 3 --jobs 1 {chosen}")[0] == 0
    (after,) = printed(typed("report --task zipf")[1].partition("Next:")[2])
    (tried,) = printed(typed("show torch:NAdam")[1].partition("Try:")[2])
    for command in (after, tried):
        assert "torch:NAdam" in command
        code, out = typed(f"{command} --dry-run")
        assert code == 0, (command, out)


def test_what_messages_advise_is_understood(tmp_path, monkeypatch):
    """A message that sends one to a command that is refused sends one nowhere."""
    monkeypatch.chdir(tmp_path)
    lines = [line for line in messages.GOLDEN.read_text().splitlines() if not line.startswith("$")]
    for command in sorted(set(printed("\n".join(lines)))):
        words = shlex.split(command)
        if words[0] in ("list", "show"):
            assert typed(command)[0] == 0, command
        else:
            tyro.cli(Command, prog="optbench", args=words, registry=REGISTRY)
