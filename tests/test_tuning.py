"""Tuning rulesets: equal trials, seeds that choose and seeds that report, and runs in two stages."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from optbench import optimizers, tuning
from optbench.cell import Cell, Status
from optbench.execute.order import Order
from optbench.execute.request import Request
from optbench.execute.session import stages
from optbench.fields import LEVELS, MOMENTUM, Search, UserError
from optbench.optimizers import parse as optimizer
from optbench.report.charts import rates
from optbench.report.problem import problems
from optbench.stats.budgets import certificate, unequal
from optbench.stats.outcomes import at_best, outcomes
from optbench.stats.stages import staged, staged_note, unreported, with_untuned
from optbench.stats.summary import summarise
from optbench.stats.tunability import best_of_trials, untuned
from optbench.store import Store
from optbench.suite import Suite, load
from optbench.tasks import parse as task
from tests.test_report import stored, trace

SAMPLED = ("random", "quasi")


@pytest.mark.parametrize("ruleset", tuning.RULESETS)
@pytest.mark.parametrize("count", [1, 9, 64])
def test_every_optimizer_gets_the_same_number_of_different_trials(ruleset, count):
    for each in optimizers.names().values():
        found = tuning.trials(each, ruleset, count)
        names = tuning.moved(each, ruleset)
        assert len(found) == (count if names else 1), each.label()
        assert len({trial.place for trial in found}) == len(found)
        rest = {f.name for f in dataclasses.fields(each)} - set(names)
        assert all(getattr(trial.at, name) == getattr(each, name) for trial in found for name in rest)


@pytest.mark.parametrize("ruleset", SAMPLED)
def test_the_first_of_many_trials_are_those_of_few(ruleset):
    for name in ("kron", "sgd", "prodigy", "muon", "optax:yogi"):
        many, few = (tuning.trials(optimizer(name), ruleset, count) for count in (33, 12))
        assert many[:12] == few
        assert len({trial.at for trial in many}) == 33


@pytest.mark.parametrize("ruleset", SAMPLED)
def test_trials_lie_in_the_declared_ranges(ruleset):
    for each in optimizers.names().values():
        for name, search in each.searched().items():
            values = {getattr(trial.at, name) for trial in tuning.trials(each, ruleset, 32)}
            distances = [1 - value if search.complement else value for value in values]
            assert search.low * 0.999 <= min(distances) <= max(distances) <= search.high * 1.001
            assert len(values) > 30, f"{each.name}.{name}: a lane number takes any value, to four digits"


def test_what_is_no_lane_number_takes_few_values():
    """Each costs a compilation; options of another package are none."""
    trials = tuning.trials(optimizer("optax:adam[b1=0.8:0.99]"), "quasi", 32)
    assert 1 < len({dict(trial.at.options)["b1"] for trial in trials}) <= LEVELS


@pytest.mark.parametrize("ruleset", SAMPLED)
def test_so_many_hyperparameters_are_searched_at_most(ruleset):
    """The first ones declared, with the points that a cube of so many dimensions has."""
    kron = optimizer("kron")
    assert tuning.moved(kron, ruleset) == ("learning_rate", "b1", "preconditioner_lr")
    assert tuning.moved(kron, ruleset, 2) == ("learning_rate", "b1")
    found = tuning.trials(kron, ruleset, 12, 2)
    assert {trial.at.preconditioner_lr for trial in found} == {kron.preconditioner_lr}
    adam = tuning.trials(optimizer("adam"), ruleset, 12)
    assert [trial.at.b1 for trial in found] == [trial.at.b1 for trial in adam]
    assert len({trial.at.b1 for trial in found}) == 12
    assert tuning.trials(optimizer("dog"), ruleset, 12, 2) == tuning.trials(optimizer("dog"), ruleset, 12)


def test_all_methods_of_the_grand_comparison_are_searched_in_two_dimensions():
    grand = load("grand")
    for each in grand.optimizers:
        few, many = (grand.trials_of(each, toy=it) for it in (False, True))
        assert (len(few), len(many)) == (16, 30), each.label()
        assert many[:16] == few
        moved = tuning.moved(each, grand.tuning, grand.dimensions)
        assert len(moved) == grand.dimensions == 2, each.label()


def test_trials_that_differ_in_what_is_searched_share_a_program():
    """But for a default of 0, which is another structure; the id of a cell says its numbers as ever."""
    for name, programs in (("adam", 1), ("sgd", 2), ("adam+cautious", 1)):
        cells = suite(tasks=(task("quadratic_10"),), optimizers=(optimizer(name),)).cells()
        assert len({cell.program_key() for cell in cells}) == programs
    adam = optimizer("adam")
    [first] = tuning.trials(adam, "quasi", 1)
    assert first.at.spec() == adam.spec() | {"learning_rate": first.at.learning_rate, "b1": first.at.b1}


def test_quasi_random_trials_are_spread_evenly():
    """Of 16 learning rates 4 lie in each decade; of random ones they need not."""
    rates = [math.log10(trial.place) for trial in tuning.trials(optimizer("adam"), "quasi", 16)]
    assert np.histogram(rates, bins=4, range=(-4, 0))[0].tolist() == [4, 4, 4, 4]
    rates = [math.log10(trial.place) for trial in tuning.trials(optimizer("adam"), "random", 16)]
    assert np.histogram(rates, bins=4, range=(-4, 0))[0].tolist() != [4, 4, 4, 4]


def test_what_the_user_set_is_not_searched():
    assert list(optimizer("adam").searched()) == ["learning_rate", "b1"]
    fixed = optimizer("adam[b1=0.95]")
    assert list(fixed.searched()) == ["learning_rate"]
    assert {trial.at.b1 for trial in tuning.trials(fixed, "quasi", 9)} == {0.95}
    assert list(optimizer("dog").searched()) == ["learning_rate"]  # the factor of the step that it finds
    assert optimizer("adamw").searched().keys() == optimizer("adam").searched().keys()  # no weight decay


@pytest.mark.parametrize("name", ["dog", "dowg", "prodigy", "dadapt_adamw"])
def test_methods_that_find_their_step_size_have_the_trials_of_the_others(name):
    """They used to run once where others ran at nine learning rates."""
    trials = optimizer(name).trials(9)
    assert len(trials) == len(optimizer("adam").trials(9))
    assert optimizer(name) in trials, "what its authors advise is among them"


def test_places_on_a_log_scale_by_hand():
    assert Search(1e-4, 1.0).at(0.5, lane=True) == 0.01
    assert [MOMENTUM.at(place, lane=False) for place in (0.0, 0.3, 0.6, 0.99)] == [0.99, 0.9689, 0.9035, 0.7]
    assert Search(0.01, 1, complement=True).at(0.99, lane=False) == 0  # sgd without momentum
    assert MOMENTUM.text() == "1 - (0.01 to 0.3)"


# --- cells -------------------------------------------------------------------------------------------------


def suite(**changes) -> Suite:
    things = {
        "tasks": (task("quadratic_10"), task("rosenbrock[jitter=0]")),
        "optimizers": (optimizer("adam"),),
    }
    return Suite(**{"name": "s", "trials": 4, "seeds": 3, "tuning": "quasi", **things, **changes})


def purposes(cells: list[Cell]) -> dict[int, set[int]]:
    """The seeds of each block."""
    found: dict[int, set[int]] = {}
    for cell in cells:
        found.setdefault(cell.seed // tuning.BLOCK, set()).add(cell.seed % tuning.BLOCK)
    return found


def test_what_chooses_and_what_reports_share_no_seed():
    for ruleset in tuning.RULESETS:
        one = suite(tuning=ruleset, fresh=True)
        first = one.cells()
        second = one.reporting(
            {
                (t, one.settings(t)[0], o): o.replace(learning_rate=0.1)
                for t in one.tasks
                for o in one.optimizers
            }
        )
        block = tuning.CHOOSING[ruleset] // tuning.BLOCK
        assert purposes(first) == {block: {0, 1, 2}, tuning.FRESH // tuning.BLOCK: {0, 1, 2}}
        assert purposes(second) == {tuning.FRESH // tuning.BLOCK: {0, 1, 2}}
        assert len(first) == (3 + 1) * 4 + 3 + 1  # a task without randomness has one seed
        assert len(second) == 3 + 1
    assert not suite(tuning="grid").staged
    assert purposes(suite(tuning="grid").cells()) == {0: {0, 1, 2}}


def test_what_is_no_ruleset_is_refused():
    with pytest.raises(UserError, match="Did you mean quasi"):
        suite(tuning="quas")
    with pytest.raises(UserError, match="at most 1000"):
        suite(seeds=1001)
    with pytest.raises(UserError, match="dimensions=0 is not a number of dimensions"):
        suite(dimensions=0)
    with pytest.raises(UserError, match="--lr fixes the trials"):
        Request(lr=("0.1",), tuning="quasi").cells()
    with pytest.raises(UserError, match="--trials must be an integer of at least 1, got 0"):
        Request(trials=0).cells()
    request = Request(opt=("adam",), task=("quadratic_10",), tuning="random", trials=3, seeds=2)
    assert len(request.cells()) == 3 * 2 + 2


# --- rows --------------------------------------------------------------------------------------------------


def made(one: Suite, best: int, reported: float, statuses=None) -> list:
    """Traces of a tuned run: the trial at place `best` is best; what won gets `reported` with fresh seeds."""
    traces = []
    for t, o in itertools.product(one.tasks, one.optimizers):
        trials = one.trials_of(o)
        for place, trial in enumerate(trials):
            for seed in tuning.seeds(tuning.CHOOSING[one.tuning], one.seeds, t.seeded):
                status = (statuses or {}).get(place, Status.DONE)
                cell = one.cell(t, one.settings(t)[0], trial.at, seed)
                traces.append(seen(cell, 1e-3 * 2.0 ** abs(place - best), status))
        traces += [seen(cell, 0.5) for cell in one.reporting({(t, one.settings(t)[0], o): o})]
        traces += [
            seen(cell, reported) for cell in one.reporting({(t, one.settings(t)[0], o): trials[best].at})
        ]
    return traces


def seen(cell: Cell, level: float, status: Status = Status.DONE):
    """A run that ends at `level`, whatever its seed."""
    return dataclasses.replace(trace(dataclasses.replace(cell, seed=0), level, status), cell=cell)


def tuned(folder, one: Suite, *runs) -> pd.DataFrame:
    return staged([stored(folder, *runs).frame()], one.optimizers, one)


@pytest.mark.parametrize("ruleset", tuning.RULESETS)
def test_the_winner_is_chosen_by_one_set_of_seeds_and_reported_on_another(tmp_path, ruleset):
    one = suite(tasks=(task("mlp"),), steps=40, tuning=ruleset, fresh=True)
    found = tuned(tmp_path, one, made(one, best=2, reported=0.03))
    assert found["stage"].value_counts().to_dict() == {"tuning": 12, "report": 3, "default": 3}
    assert set(found["optimizer"]) == {"adam"}
    assert found.groupby("stage")["seed"].agg(set).map(len).eq(3).all()
    report = found[found["stage"] == "report"]
    assert set(report["trial"]) == {one.trials_of(optimizer("adam"))[2].place}
    assert report["hyperparameters"].iloc[0].startswith(f"learning_rate={report['trial'].iloc[0]:g}")

    [row] = summarise(found).to_dict("records")
    assert (row["score"], row["seeds"], row["trials"]) == (pytest.approx(0.03), 3, 4)
    for best in (2, 3):  # only a grid has an edge
        [row] = summarise(tuned(tmp_path / str(best), one, made(one, best=best, reported=0.03))).to_dict(
            "records"
        )
        assert row["trial_at_edge"] == (ruleset == "grid" and best == 3)
    best = at_best(outcomes(found))
    assert best["score"].tolist() == pytest.approx([0.03] * 3)
    assert unreported(found) == []
    table = with_untuned(summarise(found), found)
    assert table["optimizer"].tolist() == ["adam", "adam (untuned)"]
    assert table["score"].tolist() == pytest.approx([0.03, 0.5])
    assert "median over 3 seeds; reported on 3 fresh seeds" in staged_note(found)


def test_toys_may_have_more_trials(tmp_path):
    """The first ones are those of other tasks; what a folder has beyond a task's number chooses nothing there."""
    one = suite(tasks=(task("mlp"), task("quadratic_10")), steps=40, toy_trials=7)
    counts = {
        each.label(): len(
            {cell.optimizer for cell in one.cells() if cell.task == each and cell.seed < tuning.FRESH}
        )
        for each in one.tasks
    }
    assert counts == {"mlp": 4, "quadratic_10": 7}
    everywhere = suite(tasks=one.tasks, steps=40, trials=7)
    found = tuned(tmp_path, one, made(everywhere, best=2, reported=0.03))
    tried = found[found["stage"] == "tuning"].groupby("task")["trial"].nunique()
    assert tried.to_dict() == counts
    assert (found["stage"] == "default").sum() == 6
    assert unequal(certificate(found)).empty
    alike = Request(suite="grand", trials=3).resolve()
    assert (alike.trials, alike.toy_trials) == (3, 3)
    assert Request(suite="quickstart", trials=3).resolve().toy_trials is None


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_line_joins_trials_that_differ_in_the_learning_rate_alone(tmp_path, dimensions):
    one = suite(tasks=(task("quadratic_10"),), steps=40, dimensions=dimensions)
    found = tuned(tmp_path, one, made(one, best=2, reported=0.03))
    [problem] = problems(found, outcomes(found))
    [line] = rates(problem, {"adam": 0})["lines"]
    also = {trial.place: f"b1={trial.at.b1:g}" for trial in one.trials_of(optimizer("adam"))}
    assert line.get("also") == (None if dimensions == 1 else [also[rate] for rate in sorted(also)])


def test_more_choosing_seeds_than_the_suite_asks_for_choose_nothing(tmp_path):
    """They are of another run on the same store."""
    one = suite(tasks=(task("quadratic_10"),), steps=40, tuning="grid", fresh=True, seeds=3)
    runs = made(one, best=2, reported=0.03)
    found = tuned(tmp_path, dataclasses.replace(one, choosing=1), runs)
    assert found["stage"].value_counts().to_dict() == {"tuning": 4, "report": 3, "default": 3}


def test_the_test_split_of_what_chose_is_never_read(tmp_path):
    """Numbers on the test split that are not those of reported rows change nothing that is printed."""
    one = suite(tasks=(task("mlp"),), steps=40)
    frame = tuned(tmp_path, one, made(one, best=1, reported=0.03))
    spoiled = frame.copy()
    other = spoiled["stage"] == "tuning"
    spoiled.loc[other, "evaluation.test_error"] = spoiled.loc[other, "evaluation.test_error"].map(
        lambda x: x * 0 - 9
    )
    pd.testing.assert_frame_equal(summarise(frame), summarise(spoiled))
    again = tuned(tmp_path / "again", one, made(one, best=1, reported=0.03))
    assert set(again.loc[again["stage"] == "report", "trial"]) == set(
        frame.loc[frame["stage"] == "report", "trial"]
    )


def test_more_trials_may_choose_another_winner_and_forget_the_last(tmp_path):
    few, many = (
        suite(tasks=(task("quadratic_10"),), steps=40),
        suite(tasks=(task("quadratic_10"),), steps=40, trials=8),
    )
    runs = (made(few, best=0, reported=1e-2), made(many, best=7, reported=1e-4))
    found = tuned(tmp_path, many, *runs)
    assert set(found.loc[found["stage"] == "report", "trial"]) == {many.trials_of(optimizer("adam"))[7].place}
    assert (found["stage"] == "tuning").sum() == 8 * 3
    # Of the four alone, the first was best; the eight were written later, and the four are among them.
    before = tuned(tmp_path / "b", few, runs[0])
    assert set(before.loc[before["stage"] == "report", "trial"]) == {
        few.trials_of(optimizer("adam"))[0].place
    }


def test_an_untuned_optimizer_that_wins_is_in_both_stages(tmp_path):
    one = suite(tasks=(task("quadratic_10"),), optimizers=(optimizer("lbfgs"),), steps=40)
    found = tuned(tmp_path, one, made(one, best=0, reported=1e-3))
    assert found["stage"].value_counts().to_dict() == {"tuning": 3, "default": 3, "report": 3}
    assert summarise(found)["seeds"].tolist() == [3]
    assert unequal(certificate(found)).empty


def test_a_winner_that_did_not_run_yet_is_told(tmp_path):
    one = suite(tasks=(task("quadratic_10"),), steps=40)
    traces = [trace for trace in made(one, best=2, reported=0.1) if trace.cell.seed < tuning.FRESH]
    assert unreported(tuned(tmp_path, one, traces)) == [("quadratic_10", "adam")]


def test_statistics_read_the_stage_that_is_theirs(tmp_path):
    one = suite(tasks=(task("quadratic_10"),), steps=40)
    found = outcomes(tuned(tmp_path, one, made(one, best=1, reported=2e-3)))
    best = best_of_trials(found)
    assert best["middle"].tolist()[-1] == pytest.approx(1e-3)  # what chose
    [row] = untuned(found).to_dict("records")
    assert (row["value"], row["best"], row["trials"], row["better"]) == pytest.approx((0.5, 2e-3, 4, 4))
    table = certificate(tuned(tmp_path / "b", one, made(one, best=1, reported=2e-3)))
    assert (table["trials"].iloc[0], table["seeds"].iloc[0], table["lanes"].iloc[0]) == (4, 3, 18)


def test_where_all_trials_fail_the_least_of_them_is_reported(tmp_path):
    one = suite(tasks=(task("quadratic_10"),), steps=40)
    places = [trial.place for trial in one.trials_of(optimizer("adam"))]
    lost = dict.fromkeys(range(4), Status.DIVERGED)
    found = tuned(tmp_path, one, made(one, best=places.index(min(places)), reported=1.0, statuses=lost))
    assert set(found.loc[found["stage"] == "report", "trial"]) == {min(places)}


# --- two stages, really ------------------------------------------------------------------------------------


def test_a_tuned_run_goes_on_where_it_was_and_computes_nothing_twice(tmp_path):
    import optbench

    options = {"tuning": "quasi", "trials": 2, "seeds": 2, "steps": 30, "jobs": 1, "results": str(tmp_path)}
    opt, problem = (
        "sgd[momentum=0.5]",
        "quadratic_10",
    )  # given a momentum, it searches its learning rate alone
    result = optbench.run(opt=opt, task=problem, **options)
    assert result.frame["stage"].value_counts().to_dict() == {"tuning": 4, "default": 2, "report": 2}
    assert set(result.frame["optimizer"]) == {opt}
    assert result.table["seeds"].tolist() == [2]

    def run() -> list[int]:
        computed = []
        for session in stages(Order.of(Request(opt=(opt,), task=(problem,), **options))):
            computed.append(session.missing)
            for _ in session.run():
                pass
        return computed

    assert run() == [0, 0]
    # Interrupted after the first stage: what won is all that is missing.
    [last] = [path for path in Store(tmp_path).files() if len(Store(tmp_path).read(path)) == 2]
    last.unlink()
    assert run() == [0, 2]
