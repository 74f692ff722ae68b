"""`optbench check`: what counts as moved, the files it is compared with, and what it catches."""

import dataclasses
import importlib.metadata
import math
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from optbench.fields import UserError
from optbench.gate import check, fingerprint, output
from optbench.gate import trajectory as gate
from optbench.gate.fingerprint import Value
from optbench.gate.rows import STEPS, rows
from optbench.optimizers import listed, names
from tests.mutants import ROOT, mutants
from tests.mutants.__main__ import outcome
from tests.mutants.alarms import HARMLESS

ADAM, SGD = ("quadratic_10", "adam", "0.01"), ("quadratic_10", "sgd", "0.1")
NUMBERS = {ADAM: gate.Number(1e-5, 120.0, steps_tolerance=6.0), SGD: gate.Number(math.inf, math.inf)}


def test_what_is_written_is_read_back_and_reads_well(tmp_path):
    path = tmp_path / "deep" / "gate.tsv"
    gate.write(path, "gate", NUMBERS)
    assert gate.read(path) == NUMBERS
    lines = path.read_text().splitlines()
    assert lines[0] == "# optbench check --suite gate --update"
    body = [line for line in lines if not line.startswith("#")][1:]
    assert body == sorted(body), "a sorted file makes a small difference"


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ((1e-5, 120.0), None),
        ((1.1e-5, 121.0), None),
        ((1e-5, 122.0), None),
        ((2e-5, 120.0), "(worse)"),
        ((5e-6, 120.0), "(better)"),
        ((math.inf, math.inf), "(worse)"),
        ((math.nan, 120.0), "(worse)"),
        ((1e-5, 150.0), "steps to target 120 -> 150 (worse)"),
        ((1e-5, 90.0), "steps to target 120 -> 90 (better)"),
        ((1e-5, math.inf), "steps to target 120 -> inf (worse)"),
    ],
)
def test_a_number_that_moved_is_named(new, words):
    moved = gate.compare(NUMBERS, {**NUMBERS, ADAM: gate.Number(*new)})
    assert len(moved) == (1 if words else 0)
    if words:
        assert moved[0][:4] == ("trajectory", "adam", "jax", "quadratic_10 0.01")
        assert words in moved[0].sentence


def test_what_is_not_run_any_more_and_what_is_new_are_named():
    [gone] = gate.compare(NUMBERS, {ADAM: NUMBERS[ADAM]})
    assert (gone.optimizer, gone.sentence) == ("sgd", "not run any more")
    [new] = gate.compare({ADAM: NUMBERS[ADAM]}, NUMBERS)
    assert (new.optimizer, new.sentence) == ("sgd", "not in the baselines")


def test_rounding_noise_below_the_floor_is_equal():
    assert gate.apart(1e-12, 3e-9) == 0
    assert gate.apart(math.inf, math.inf) == 0
    assert gate.apart(1.0, math.nan) == math.inf


@pytest.mark.parametrize(
    "text",
    [
        "task\toptimizer\nx\ty\n",
        "task\toptimizer\ttrial\tloss\tsteps\tloss_tolerance\tsteps_tolerance\na\tb\tc\tlow\t1\t1\t1\n",
    ],
)
def test_a_file_that_cannot_be_read_is_a_message(tmp_path, text):
    path = tmp_path / "gate.tsv"
    path.write_text("")
    assert gate.read(path) == {}
    path.write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        gate.read(path)


def test_tolerances_are_three_times_what_rounding_does():
    """A stable number keeps the least tolerance; of a chaotic one only divergence is noticed."""
    one = {ADAM: gate.Number(1e-5, 100.0), SGD: gate.Number(1e-3, math.inf)}
    other = {ADAM: gate.Number(1e-5, 104.0), SGD: gate.Number(5e-3, 400.0)}
    found = gate.tolerant(one, [one, other])
    assert found[ADAM].loss_tolerance == gate.TOLERANCE_LOSS
    assert found[ADAM].steps_tolerance == 12.0
    assert found[SGD].loss_tolerance == pytest.approx(3 * math.log10(5))
    assert found[SGD].steps_tolerance == math.inf
    [chaotic] = gate.tolerant({SGD: one[SGD]}, [{SGD: gate.Number(1e-2, math.inf)}]).values()
    assert gate.movement(chaotic, gate.Number(1e-7, math.inf)) is None
    assert gate.movement(chaotic, gate.Number(math.inf, math.inf))


# --- fingerprints -------------------------------------------------------------------------------------------

LEAF = ("fingerprint", "adam", "jax", "defaults", "matrix")
MEAN = ("distribution", "kron", "jax", "defaults", "mean loss")
TIME, BYTES = (("cost", "adam", "jax", "defaults", what) for what in ("time", "bytes"))
TABLE = {
    LEAF: {1: Value(0.25, fingerprint.least(0.25)), 2: Value(0.5, 1e-6)},
    MEAN: {32: Value(2.0, 0.01)},
    TIME: {32: Value(1.5, 0.9)},
    BYTES: {32: Value(80.0, 0.0)},
}


@pytest.mark.parametrize("name", ["numbers.tsv", "deep/numbers.json"])
def test_a_table_is_read_back_and_is_sorted(tmp_path, name):
    fingerprint.write(tmp_path / name, TABLE, "optbench check")
    assert fingerprint.read(tmp_path / name) == TABLE
    text = (tmp_path / name).read_text()
    assert text.index("bytes") < text.index("mean loss") < text.index("matrix")
    assert "optbench check" in text.splitlines()[0]


def test_a_torn_table_is_a_message(tmp_path):
    (tmp_path / "numbers.tsv").write_text("layer\nfingerprint\tadam\n")
    with pytest.raises(UserError, match="--update"):
        fingerprint.read(tmp_path / "numbers.tsv")


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        (LEAF, {1: Value(0.25 + 9e-10, 0), 2: Value(0.5, 0)}, None),
        (LEAF, {1: Value(0.25, 0), 2: Value(0.51, 0)}, "matrix after step 2: 0.5 -> 0.51 (allowed 1e-06)"),
        (LEAF, {1: Value(math.nan, 0), 2: Value(math.nan, 0)}, "matrix after step 1: 0.25 -> nan"),
        (LEAF, {1: Value(0.25, 0)}, "matrix is missing after step 2"),
        (MEAN, {32: Value(2.08, 0.01)}, None),
        (MEAN, {32: Value(2.2, 0.01)}, "mean loss after step 32: 2 -> 2.2"),
        (TIME, {32: Value(0.5, 0)}, None),
        (TIME, {32: Value(3.0, 0)}, "time: 1.5 -> 3"),
        (BYTES, {32: Value(81.0, 0)}, "bytes: 80 -> 81"),
    ],
)
def test_the_leaf_and_the_first_step_are_named(key, values, words):
    found = fingerprint.compare(TABLE, {**TABLE, key: values})
    assert [each[:4] for each in found] == ([key[:4]] if words else [])
    assert not words or words in found[0].sentence


def test_nothing_is_compared_after_roundings_decided_a_leaf():
    """SOAP's first eigenvectors of a null space are arbitrary, and the loss carries them to every leaf."""
    (row,) = (row for row in rows(names()["soap"]) if (row.name, row.framework) == ("defaults", "torch"))
    table = fingerprint.measure_row("soap", row, twins=True)
    last = {key[4]: max(values) for key, values in table.items() if key[0] == "fingerprint"}
    assert set(last.values()) == {1, 2}
    still = fingerprint.measure_row("soap", row)
    assert set(still["fingerprint", "soap", "torch", "defaults", "matrix"]) == {1, 2, 4, 8, 16, 32}


def test_rows_that_come_or_go_are_named():
    error = {("fingerprint", "adam", "jax", "defaults", "error: ValueError: no"): {}}
    [gone] = fingerprint.compare({LEAF: TABLE[LEAF]}, {})
    assert gone.sentence == "is not measured any more"
    [raises] = fingerprint.compare({LEAF: TABLE[LEAF]}, error)
    assert "ValueError: no" in raises.sentence


@pytest.mark.parametrize("name", listed())
def test_every_option_has_another_value_in_some_row(name):
    optimizer = listed()[name]
    settings = [row.optimizer for row in rows(optimizer) if type(row.optimizer) is type(optimizer)]
    for spec in dataclasses.fields(optimizer):
        wanted = set(spec.metadata["choices"] or ())
        values = {getattr(each, spec.name) for each in settings}
        if len(wanted) != 1:  # dQ of lra_dq, which is there for `lra[dQ=EQ]`, has no other value
            assert len(values) > 1, f"{spec.name} is {values} in every row"
        assert wanted <= values, f"{spec.name} is never {wanted - values}"


def test_sgd_is_as_in_the_committed_file():
    table = fingerprint.measure(listed()["sgd"], "torch", first_seed=101)
    old = {
        key: each for key, each in fingerprint.read(ROOT / check.OURS).items() if key[1:3] == ("sgd", "torch")
    }
    assert not [each for each in fingerprint.compare(old, table) if "time" not in each.sentence]


def test_the_files_for_services_hold_what_differs(tmp_path):
    found = [fingerprint.Difference("cost", "adam", "jax", "defaults", "bytes: 80 -> 81 | more")]
    output.write_junit(tmp_path / "deep" / "junit.xml", ["adam", "sgd"], found)
    suite = ElementTree.parse(tmp_path / "deep" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("8", "1")
    [failure] = suite.iter("failure")
    assert "bytes: 80 -> 81" in failure.get("message")
    output.append_summary(tmp_path / "summary.md", ["adam"], found)
    output.append_summary(tmp_path / "summary.md", ["adam"], [])
    text = (tmp_path / "summary.md").read_text()
    assert "bytes: 80 -> 81 \\| more |" in text
    assert "No difference: adam." in text


# --- what it catches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", [*mutants(), *HARMLESS], ids=lambda mutant: mutant.name)
def test_a_mutant_still_fits_the_code(mutant):
    compile(mutant.source_code(), mutant.module, "exec")


def test_the_table_lists_every_mutant():
    text = (ROOT / "docs" / "gate.md").read_text()
    missing = [mutant.name for mutant in mutants() if f"| {mutant.name}" not in text]
    assert not missing, f"run make power: {missing}"


SAMPLE = (
    "an option ignored: eps",
    "sign of the update missing",
    "a bias correction where none must be",
    "state twice as large",
)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_mutant_is_caught(name):
    [mutant] = [each for each in mutants() if each.name == name]
    assert outcome(mutant)["layer"] == ("cost" if name == "state twice as large" else "fingerprint")


# --- outside ------------------------------------------------------------------------------------------------

MINE = """
import torch

class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, decay=0.01):
        super().__init__(params, {"lr": lr, "decay": decay})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - group["lr"] * group["decay"]).add_(p.grad, alpha=-group["lr"])
"""
TEST = """
def test_mine(optbench_gate):
    optbench_gate("mine:Mine")
"""


@pytest.fixture
def repository(tmp_path):
    """A repository of somebody else, with one optimizer and one test."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "test_mine.py").write_text(TEST)
    (tmp_path / ".gitignore").write_text("__pycache__\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "Begin"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)
    return tmp_path


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    env = {name: value for name, value in env.items() if not name.startswith("PYTEST")}
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_the_plugin_guards_an_optimizer_of_another_repository(repository):
    known = {point.name for point in importlib.metadata.entry_points(group="pytest11")}
    plugin = [] if "optbench" in known else ["-p", "optbench.gate.plugin"]
    words = ["pytest", "-q", *plugin, "-p", "no:cacheprovider"]
    first = typed(repository, *words)
    assert first.returncode == 1
    assert "--update" in first.stdout
    assert typed(repository, *words, "--optbench-update").returncode == 0
    done = typed(repository, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    (repository / "mine.py").write_text(MINE.replace("1 - ", "1 + "))
    done = typed(repository, *words)
    assert done.returncode == 1
    assert "fingerprint: defaults in torch: column after step 1" in done.stdout


@pytest.mark.slow
def test_an_optimizer_is_compared_with_another_commit(repository):
    words = ["optbench", "check", "--opt", "mine:Mine", "--against", "HEAD", "--jobs", "1"]
    done = typed(repository, *words, "--summary", "summary.md")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No difference: mine:Mine." in (repository / "summary.md").read_text()
    (repository / "mine.py").write_text(MINE.replace("decay=0.01", "decay=0.02"))
    done = typed(repository, *words)
    assert done.returncode == 1
    assert "fingerprint: mine:Mine defaults in torch" in done.stdout


def test_optimizers_that_are_given_in_one_word_are_checked_by_every_layer(monkeypatch):
    """`--opt adam,sgd` was split for the fingerprints and taken for one name by the trajectories."""
    given = []
    monkeypatch.setattr(check, "check_optimizers", lambda texts, *_: given.append(list(texts)) or [])
    monkeypatch.setattr(check.trajectory, "check_suite", lambda *words: given.append(list(words[-1])) or [])
    code, data = check.check(opt=("adam,sgd",))
    assert given == [["adam", "sgd"], ["adam", "sgd"]]
    assert (code, data["checked"]) == (0, ["adam", "sgd"])


def test_what_would_be_compared_with_other_numbers_is_refused(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"FOLDER = {name!r}\n" + MINE)
    both = [f"{tmp_path}/{name}/same.py:Mine" for name in ("one", "other")]
    with pytest.raises(UserError, match="the same file name"):
        check.check_optimizers(both, tmp_path / "own.json", None, None, 1)
    with pytest.raises(UserError, match="Name them: --opt"):
        check.check(baseline=str(tmp_path / "own.json"))


def test_lines_that_another_process_wrote_meanwhile_stay(tmp_path, monkeypatch):
    path = tmp_path / "own.json"

    def measured(*_, **how):
        fingerprint.write(path, TABLE, "by another process")
        return {(*LEAF[:1], "sgd", *LEAF[2:]): TABLE[LEAF]}

    monkeypatch.setattr(check, "measured", measured)
    check.check_optimizers(["sgd"], path, "--update", None, 1)
    assert {key[1] for key in fingerprint.read(path)} == {"sgd", "adam", "kron"}


def test_whatever_has_numbers_is_checked(monkeypatch):
    """Those of twenty methods stood in the file and were compared by nobody."""
    given = []
    monkeypatch.setattr(check, "check_optimizers", lambda texts, *_: given.extend(texts) or [])
    monkeypatch.setattr(check.trajectory, "check_suite", lambda *words: [])
    check.check()
    assert set(given) == {key[1] for key in fingerprint.read(check.OURS)} >= {"kron", "muon"}


def test_an_optimizer_without_trajectories_has_none_to_compare(monkeypatch):
    monkeypatch.setattr(gate, "run", lambda request: pytest.fail("something ran"))
    assert gate.check_suite("gate", None, False, 1, ["soap"]) == []


def test_parts_of_an_optimizer_are_all_its_rows(monkeypatch):
    monkeypatch.setattr(fingerprint, "measure_row", lambda name, row, *how: {row.name: row})
    whole, *parts = (
        fingerprint.measure(listed()["kron"], "jax", part=part, of=of)
        for part, of in ((0, 1), (0, 2), (1, 2))
    )
    assert len(parts[0]) - len(parts[1]) in (0, 1)
    assert parts[0] | parts[1] == whole


def test_a_time_that_is_too_long_once_is_measured_again(monkeypatch):
    key, product = (
        ("cost", "adam", "jax", "defaults", "time"),
        ("cost", "adam", "jax", "defaults", "products"),
    )
    old = {key: {STEPS: Value(1.3, 2.7)}, product: {STEPS: Value(0.0, 0.0)}}
    times = iter([5.7, 1.4])

    def measured(*how):
        return {key: {STEPS: Value(next(times), 0.0)}, product: {STEPS: Value(1.0, 0.0)}}

    monkeypatch.setattr(check, "measured", measured)
    found = check.quiet(old, measured(), [listed()["adam"]], 1)
    assert found[key][STEPS].value == 1.4
    assert found[product][STEPS].value == 1.0, "only times are measured again"
    assert check.compare(old, found)
