"""`optbench report --compare A B`: what moved, by how much, against its spread."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optbench import UserError
from optbench.cell import Status
from optbench.report.compare import Ratios, compare, frame_of, texts
from optbench.report.selection import Selection
from optbench.report.write import comparison, reports, result_files, write_comparison, write_report
from optbench.tasks import parse as task
from tests.test_report import FACTS, grid, stored
from tests.test_tuning import made, optimizer, suite


def scaled(traces, factors):
    """The same runs with other losses, a factor for each seed."""
    for trace in traces:
        factor = factors[trace.cell.seed]
        trace.losses = trace.losses * factor
        trace.evaluations = {name: values * factor for name, values in trace.evaluations.items()}
    return traces


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    a = stored(folder / "a", *(grid("mlp", opt, 0.05) for opt in ("kron", "adam", "sgd", "novograd")))
    b = stored(
        folder / "b",
        grid("mlp", "kron", 0.05),
        scaled(grid("mlp", "adam", 0.05), [0.8, 0.8, 0.7, 0.9, 0.75]),
        scaled(grid("mlp", "sgd", 0.05), [1.5, 1.4, 1.6, 1.5, 1.5]),
        scaled(grid("mlp", "novograd", 0.05), [0.5, 1.7, 1.1, 1.3, 0.6]),
        grid("quadratic_10", "adam"),
        seconds_per_step=None,
    )
    return compare("results", (str(a.folder), str(b.folder)), Selection(suite="quickstart"))


def test_what_moved_is_told_from_what_only_may_have(found):
    assert {each.optimizer: each.verdict for each in found.moves} == {
        "kron": "same bits", "adam": "better", "sgd": "worse", "novograd": "undecided",
    }  # fmt: skip
    assert "1 improved" in found.headline
    assert "20 of 80 cells" in found.headline
    assert found.alone == ([], ["adam on quadratic_10"])


def test_the_ratio_is_taken_seed_by_seed(found):
    """A factor on every seed has no spread, however wide the seeds lie apart."""
    moves = {each.optimizer: each for each in found.moves}
    assert moves["adam"].ratio[0] == pytest.approx(0.8)
    assert moves["sgd"].ratio == pytest.approx((1.5, 1.4, 1.6))
    assert moves["kron"].ratio == (1, 1, 1)
    assert moves["kron"].identical == moves["kron"].cells == 20
    low, high = moves["sgd"].a[1:]
    assert moves["sgd"].of_spread == pytest.approx(math.log(1.5) / (math.log(high / low) / 2))


def test_the_page_and_the_tables_show_it(found):
    page, markdown = (comparison(found)[name].decode() for name in ("index.html", "index.md"))
    assert page.count('scope="row"') == 8
    assert "1.5 [1.4, 1.6]" in page
    assert "sgd | worse | final test error" in markdown
    assert frame_of(found)["ratio"].tolist() == [each.ratio[0] for each in found.moves]
    assert all(len(texts(each)) == 12 for each in found.moves)
    ends, bars = Ratios(found).bars()
    assert math.prod(ends) == pytest.approx(1)
    places = {move.optimizer: float(middle) for move, _, middle, _ in bars}
    assert places["adam"] < places["kron"] == 50 < places["sgd"]


def test_versions_in_one_folder_are_sides_too(tmp_path):
    store = stored(tmp_path, grid(level=1e-3), commit="aaaaaaaaaaaa")
    store.write(grid(level=2e-3), FACTS | {"commit": "bbbbbbbbbbbb"})
    moves = compare(str(tmp_path), ("aaaa", "bbbbbbbbbbbb"), Selection(suite="quickstart")).moves
    assert [each.verdict for each in moves] == ["worse"]
    assert moves[0].ratio[0] == pytest.approx(2)
    assert len(store.frame()) == 20
    assert len(store.frame(every=True)) == 40


def test_where_lanes_stop_at_a_target_steps_are_compared(tmp_path):
    def reached(folder, factor):
        traces = grid(level=1e-9, statuses=dict.fromkeys(range(4), Status.REACHED))
        for trace in traces:
            trace.losses = np.geomspace(1, 1e-9, 20 * factor + 1)
            trace.evaluation_steps = trace.evaluation_steps[:1]
            trace.evaluations = {"loss": np.ones(1)}
        return str(stored(folder, traces).folder)

    names = (reached(tmp_path / "a", 1), reached(tmp_path / "b", 2))
    (move,) = compare("results", names, Selection(suite="quickstart")).moves
    assert move.metric == "steps to loss 1e-8"
    assert move.ratio[0] == pytest.approx(36 / 18, rel=0.1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("{a}", "{a}x"), "neither a folder nor a version"),
        (("{a}", "9999999"), "neither a folder nor a version that .* has rows of"),
        (("{a}", "{b}"), "have no cells of suite quickstart in common"),
        (("empty", "{b}"), "Nothing is stored"),
    ],
)
def test_what_cannot_be_compared_is_a_message(tmp_path, names, said):
    folders = {
        "a": str(stored(tmp_path / "a", grid(opt="adam")).folder),
        "b": str(stored(tmp_path / "b", grid(opt="sgd")).folder),
    }
    results = str(tmp_path / "none") if "empty" in names else folders["a"]
    with pytest.raises(UserError, match=said):
        compare(results, tuple(name.format(**folders) for name in names), Selection(suite="quickstart"))


@pytest.mark.parametrize("best", [2, 1])
def test_winners_are_compared_on_fresh_seeds_also_where_they_differ(tmp_path, best):
    one = suite(tasks=(task("quadratic_10"),), tuning="grid", fresh=True, seeds=6)
    a, b = (
        stored(tmp_path / name, made(one, at, level))
        for name, at, level in (("a", 2, 1e-4), ("b", best, 1e-5))
    )
    (move,) = compare("results", (str(a.folder), str(b.folder)), Selection(suite=one)).moves
    assert (move.verdict, move.seeds) == ("better", 6)
    assert move.ratio[0] == pytest.approx(0.1)
    assert (move.trial == move.trial_b) == (best == 2)


def test_an_untuned_winner_is_compared(tmp_path):
    one = suite(tasks=(task("quadratic_10"),), trials=9, tuning="grid", fresh=True, seeds=6)
    default = [trial.at for trial in one.trials_of(optimizer("adam"))].index(optimizer("adam"))
    store = stored(tmp_path / "a", made(one, default, 1e-4))
    (move,) = compare("results", (str(store.folder),) * 2, Selection(suite=one)).moves
    assert (move.verdict, move.seeds) == ("same bits", 6)


def test_what_has_no_run_at_the_rate_of_a_is_on_one_side_only(tmp_path):
    a = stored(tmp_path / "a", grid(opt="adam"), grid(opt="sgd"))
    b = stored(
        tmp_path / "b",
        [each for each in grid(opt="adam") if each.cell.optimizer != grid(opt="adam")[5].cell.optimizer],
        grid(opt="sgd"),
    )
    found = compare("results", (str(a.folder), str(b.folder)), Selection())
    assert [each.optimizer for each in found.moves] == ["sgd"]
    assert found.alone[0] == ["adam on quadratic_10 at lr 0.00215"]


def test_two_names_are_needed(tmp_path):
    with pytest.raises(UserError, match="--compare was given 1 names"):
        write_comparison("results", str(tmp_path), Selection(suite="quickstart"), ("a",))


def test_it_is_written_beside_the_report(tmp_path, found):
    _, said = write_comparison(
        "results", str(tmp_path), Selection(suite="quickstart"), [",".join(found.names)]
    )
    assert (tmp_path / "quickstart-compare/index.html").is_file()
    assert found.headline in said


def test_reports_of_one_folder_are_listed(tmp_path, found):
    sides = [",".join(found.names)]
    write_comparison("results", str(tmp_path), Selection(suite="quickstart"), sides)
    assert not (tmp_path / "reports.html").exists(), "one needs no list"
    write_report(found.names[0], str(tmp_path), Selection(suite="quickstart"))
    [one, other] = reports(tmp_path)
    assert {one.name, other.name} == {"quickstart-compare", "quickstart"}
    html = (tmp_path / "reports.html").read_text()
    assert 'href="quickstart-compare/index.html"' in html
    assert all(each.says in html for each in (one, other))
    assert found.headline in {one.says, other.says}


def test_a_report_links_to_result_files_in_its_own_folder(tmp_path):
    folder = tmp_path / "grand"
    assert result_files(folder / "my rows", folder) == {"result files": "my%20rows/runs"}
    assert result_files(tmp_path / "results", folder) == {}
