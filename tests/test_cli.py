"""The command line: what it says to bad input, how it exits, and a whole run through a real process."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import optbench
from optbench import cli, suite
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.fields import UserError
from optbench.terminal import vet_in_terminal
from tests import messages
from tests.process import command

ROOT = Path(__file__).parent.parent
TINY = (
    "--task",
    "rosenbrock_2",
    "--opt",
    "adam,sgd",
    "--lr",
    "0.01,0.1",
    "--seeds",
    "2",
    "--steps",
    "40",
    "--jobs",
    "1",
)


@pytest.fixture(scope="module")
def golden() -> dict[str, str]:
    blocks = messages.GOLDEN.read_text().split("$ optbench ")[1:]
    return {command: text.rstrip("\n") for command, _, text in (block.partition("\n") for block in blocks)}


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", messages.CASES)
def test_bad_input_gets_the_message_of_the_golden_file(case, golden):
    with messages.somewhere(data="--data" in case) as folder, messages.conditions():
        before = everything(folder)
        code, out, err = messages.said(case)
        after = {name: data for name, data in everything(folder).items() if "__pycache__" not in name}
    assert err.rstrip("\n") == golden[case]
    assert code == 2
    assert re.fullmatch(r"(optbench: quickstart, \d+ cells\n)?", out), (
        "a message about bad input stands alone"
    )
    assert after == before, "something was left behind"


def test_every_message_is_one_line_that_names_optbench(golden):
    assert list(golden) == messages.CASES
    for case, text in golden.items():
        assert re.fullmatch(r"optbench: .+", text), f"{case}: {text}"
        assert "Traceback" not in text


COMMANDS = "run, try, vet, list, show, report, paper, import, export, merge, claims, check"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("run --steps many", "'many' is not a whole number"),
        ("run --seeds 1.5", "'1.5' is not a whole number"),
        ("run --timeout soon", "'soon' is not a number"),
        ("run --steps", "no number of steps was given. Name at least one"),
        ("run --optt adam", "Perhaps you meant"),
        ("runn", f"Available subcommands: {COMMANDS}"),
        ("list optimisers", "Expected one of ('optimizers',"),
        ("show", "Missing from optbench show"),
        ("", f"Expected one of {{{COMMANDS}}}"),
    ],
)
def test_what_the_parser_refuses_is_said_plainly(case, words):
    code, out, err = messages.said(case)
    assert code == 2
    assert words in re.sub(r"[\s│|]+", " ", err)
    assert out == ""
    assert "None" not in err.replace("(default: None)", "")


def test_python_callers_get_the_same_messages(tmp_path):
    for options, words in (
        ({"opt": "krn"}, "Did you mean kron"),
        ({"opt": ()}, "no optimizer was given"),
        ({"lr": -1}, "--lr must be numbers above 0, such as --lr 0.1,0.01; got '-1'"),
        ({"lr": [0.1, float("nan")]}, "got 'nan'"),
        ({"steps": "many"}, "--steps: 'many' is not a whole number."),
        ({"seeds": True}, "--seeds must be an integer of at least 1, got True"),
        ({"jobs": 1.5}, "--jobs must be an integer of at least 1, got 1.5"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            optbench.run(results=str(tmp_path / "results"), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_real_process_says_it_on_standard_error_with_code_2(tmp_path, golden):
    for case in ("run --opt krn", "run --steps 0"):
        done = command(*case.split(), cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.rstrip("\n")) == (2, "", golden[case])
    assert list(tmp_path.iterdir()) == []


def test_a_results_folder_that_the_system_refuses(tmp_path):
    done = command("run", *TINY, "--results", "/proc/optbench", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"optbench: results folder '/proc/optbench' cannot be written: .+\n", done.stderr)


def test_the_reader_of_a_pipe_may_go_away():
    done = subprocess.run(
        f"{sys.executable} -m optbench list | head -n 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("optimizer")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("list >&- 2>&- <&-", 0),
        ("list --json >&-", 0),
        ("list > /dev/full", 2),
        ("list --json > /dev/full", 2),
        ("list --json | true", 0),
    ],
)
def test_standard_output_may_be_closed_or_full(line, code):
    """With and without Python's buffer; what is opened later does not take the number of a closed stream."""
    full = f"{sys.executable} -m optbench {line}"
    for buffered in ("", "1"):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", full], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )  # fmt: skip
        said = done.stderr.splitlines()
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        assert [line for line in said if line.startswith("optbench: ")] == [
            line for line in said if line.endswith("No space left on device.")
        ]
        assert len(said) > 0 or not code


@pytest.mark.parametrize(
    "words", ["run --seeds x", "run --task a --task b", "list nothing", "run --tasks mlp"]
)
def test_words_that_are_not_understood_are_an_object_too(words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["optbench", *words.split(), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    answer = json.loads(capsys.readouterr().out)
    assert (ended.value.code, answer["exit_code"], answer["command"]) == (2, 2, words.split()[0])
    assert words.split()[1].strip("-") in answer["error"] or "'nothing'" in answer["error"]


def test_without_a_standard_output_a_run_is_silent(tmp_path, monkeypatch):
    """As under pythonw, or `optbench run >&-`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["optbench", "run", *TINY])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    sys.stdout.close()
    assert end.value.code == 0
    monkeypatch.setattr(sys, "stdout", None)
    result = optbench.run("adam,sgd", task="rosenbrock_2", lr=0.1, steps=3)
    with pytest.raises(UserError, match="Did you mean loss"):
        result.plot("los")


CHECK = "import sys; from optbench import cli; cli.do = lambda command: {}; cli.main()"


def ends(do: str, redirect: str = "", **how) -> tuple[int, str]:
    """The exit code and standard error of a command that does something else."""
    line = f"{sys.executable} -c '{CHECK.format(do)}' check --json {redirect}"
    done = subprocess.run(line, shell=True, cwd=ROOT, text=True, stderr=subprocess.PIPE, **how)
    return done.returncode, done.stderr


def test_an_exit_code_lasts_where_nobody_reads():
    read, write = os.pipe()
    os.close(read)
    assert ends("(1, {})", stdout=write) == (1, "")
    assert ends("(1, {})", ">&-") == (1, "")
    code, said = ends("(1, {})", ">/dev/full")
    assert (code, said) == (2, "optbench: standard output: No space left on device.\n")


def test_a_fault_of_ours_is_no_answer():
    code, said = ends("1 / 0", stdout=subprocess.DEVNULL)
    assert (code, said.splitlines()[-1]) == (2, "ZeroDivisionError: division by zero")


def test_a_dry_run_leaves_no_folder(tmp_path):
    for dry in (True, False):
        Order.of(
            Request(opt=("adam",), task=("rosenbrock_2",), dry_run=dry, results=str(tmp_path / "results"))
        )
        assert (tmp_path / "results").exists() != dry


def test_a_run_computes_once_and_then_only_what_is_new(tmp_path):
    first = command("run", *TINY, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    lines = first.stdout.splitlines()
    assert lines[0] == "optbench: quickstart, 8 cells"
    assert lines[1].startswith("0 stored, 8 to compute in 2 programs on 1 worker")
    assert sum(line.startswith("[") for line in lines) == 2
    assert any(line.startswith("Next: optbench report") for line in lines)
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("task ")) :]
    assert max(map(len, table[:3])) <= 100
    files = everything(tmp_path)
    assert len(files) == 2

    again = command("run", *TINY, cwd=tmp_path)
    assert again.returncode == 0
    assert "All 8 cells are stored in results; nothing to compute" in again.stdout
    assert everything(tmp_path) == files, "nothing that is stored is ever changed"

    more = list(TINY)
    more[more.index("--seeds") + 1] = "3"
    assert "8 stored, 4 to compute" in command("run", *more, cwd=tmp_path).stdout
    forced = command("run", *TINY, "--again", cwd=tmp_path)
    assert "0 stored, 8 to compute" in forced.stdout
    assert everything(tmp_path).items() >= files.items()


def test_a_file_without_a_name_in_it_is_asked_for_one_and_that_of_a_suite_has_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("question.py").write_text(f'"""Which?"""\n{(suite.folder() / "paths.py").read_text()}')
    for words in (
        "vet question.py",
        "run --opt question.py",
        "run --task question.py",
        "run --metrics question.py",
    ):
        assert "question.py:NAME" in messages.said(words)[2], words
    assert "Which?" in messages.said("show question.py")[1]


def test_everything_that_is_listed_has_a_page():
    from optbench import optimizers, pages, suite, tasks

    for what, names in (
        ("optimizers", optimizers.names()),
        ("tasks", tasks.names()),
        ("suites", suite.names()),
    ):
        listing = pages.as_table(pages.listing(what))
        for name in names:
            assert re.search(rf"^{name}\b", listing, re.MULTILINE)
            page, facts = pages.page(name)
            assert facts["name"] == name
            assert page.startswith(name)
            assert "optbench " in page, "a page says what to type"
            assert max(map(len, page.splitlines())) < 200
    for name, optimizer in optimizers.names().items():
        found = optimizer.frameworks()
        assert (f"Frameworks: {', '.join(found)} (" in pages.page(name)[0]) == (len(found) == 1)


@pytest.mark.slow
def test_json_is_one_object_of_the_documented_schema(tmp_path):
    """Standard output has nothing else; every key is documented, and no number is one that JSON does not have."""
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "json.md").read_text()))
    codes = {
        ("list", "tasks"): 0,
        ("list", "suites"): 0,
        ("show", "kron"): 0,
        ("show", "mlp"): 0,
        ("show", "krn"): 2,
        ("run", *TINY): 0,
        ("run", "--task", "mlpp", "--dry-run"): 2,
        ("run", *TINY, "--again", "--dry-run"): 0,
        ("report", "--task", "rosenbrock_2"): 0,
        ("vet", "sgd", "--framework", "torch"): 0,
    }
    for words, code in codes.items():
        done = command(*words, "--json", cwd=tmp_path)
        answer = json.loads(done.stdout, parse_constant=pytest.fail)
        assert (done.returncode, answer["exit_code"], answer["command"]) == (code, code, words[0]), words
        assert set(answer) <= documented, words
        if words == ("run", *TINY):
            assert [row["optimizer"] for row in answer["table"]] == ["adam", "sgd"]
            assert answer["verdict"] in " ".join(done.stderr.split())


def test_a_framework_that_is_not_installed_is_named_and_the_other_works(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *own: name != "torch" and find(name, *own))
    with pytest.raises(UserError, match=r"torch is not installed.*--framework jax"):
        Request(framework="torch", opt=("adam",)).resolve()
    assert Request(opt=("adam",)).resolve().framework == "jax"
    with pytest.raises(UserError, match="is in jax here, not in torch"):
        vet_in_terminal("adam", "torch")
