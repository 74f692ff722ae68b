"""`optbench check`: which differences count, and the file of baselines."""

import math

import pytest

from optbench import gate
from optbench.fields import UserError

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
def test_a_number_that_moved_is_named_and_fails(capsys, tmp_path, new, words):
    code = gate.compare(NUMBERS, {**NUMBERS, ADAM: gate.Number(*new)}, tmp_path)
    out = capsys.readouterr().out
    assert code == bool(words)
    parts = ("moved: quadratic_10 adam 0.01: ", words, "optbench check --update")
    assert all(part in out for part in parts) if words else out.startswith("2 of 2 numbers as in ")


def test_what_is_not_run_any_more_and_what_is_new_are_named(capsys, tmp_path):
    assert gate.compare(NUMBERS, {ADAM: NUMBERS[ADAM]}, tmp_path) == 1
    assert "sgd 0.1: not run any more" in capsys.readouterr().out
    assert gate.compare({ADAM: NUMBERS[ADAM]}, NUMBERS, tmp_path) == 1
    assert "sgd 0.1: not in the baselines" in capsys.readouterr().out


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
    """A chaotic number is hidden, a stable one keeps the least tolerance."""
    one = {ADAM: gate.Number(1e-5, 100.0), SGD: gate.Number(1e-3, math.inf)}
    other = {ADAM: gate.Number(1e-5, 104.0), SGD: gate.Number(1e-2, 400.0)}
    found = gate.tolerant(one, [one, other])
    assert found[ADAM].loss_tolerance == gate.TOLERANCE_LOSS
    assert found[ADAM].steps_tolerance == 12.0
    assert found[SGD].loss_tolerance == pytest.approx(3.0)
    assert found[SGD].steps_tolerance == math.inf
