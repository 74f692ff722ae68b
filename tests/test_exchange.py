"""Other people's numbers: AlgoPerf's published scores again, a round trip of own rows, and what bad files are told."""

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from optbench import UserError
from optbench.cell import Status
from optbench.exchange import curves
from optbench.exchange.command import export_in_terminal, import_in_terminal, keep
from optbench.exchange.sheet import Sheet
from optbench.record import IMPORTED
from optbench.report.content import Content
from optbench.report.selection import Selection
from optbench.report.write import write_report
from optbench.stats import profiles
from optbench.stats.summary import summarise
from optbench.store import Store
from optbench.suite import load
from tests.test_report import grid, index, stored
from tests.test_tuning import made, suite, tuned

TABLES = Path(__file__).parent / "golden" / "algoperf"
PUBLISHED = {
    "external": {
        "shampoo_submission": 0.7784, "schedule_free_adamw": 0.7077, "generalized_adam": 0.6383, "cyclic_lr": 0.6301,
        "nadamp": 0.5909, "baseline": 0.5707, "amos": 0.4918, "caspr_adaptive": 0.4722, "lawa_queue": 0.3699,
        "lawa_ema": 0.3384, "schedule_free_prodigy": 0.0,
    },
    "self": {
        "schedule_free_adamw": 0.8542, "baseline": 0.8194, "nadamw_sequential": 0.3308, "sinv6_75": 0.1420,
        "sinv6": 0.0903, "adamg": 0.0,
    },
}  # fmt: skip
"""Scores of AlgoPerf's first leaderboard, previous_leaderboards/algoperf_v05 in mlcommons/submissions_algorithms."""


def defined(table: dict[tuple[str, str, int], float]) -> dict[str, float]:
    """AlgoPerf's score as its scoring code defines it, with loops: medians over studies, held-out variants, four times
    the fastest, the trapezoidal rule at 100 ratios."""
    names = sorted({name for name, _, _ in table})
    workloads = sorted({workload for _, workload, _ in table})
    variants = {
        w: min(b, key=len) for w in workloads if (b := [o for o in workloads if w.startswith(o + "_")])
    }
    times = {}
    for name in names:
        for workload in workloads:
            own = [time for (n, w, _), time in table.items() if (n, w) == (name, workload)]
            times[name, workload] = float(np.median(own)) if own else math.inf
    for variant, base in variants.items():
        for name in names:
            if times[name, base] == math.inf:
                times[name, variant] = math.inf
    best = {w: min(times[name, w] for name in names) for w in workloads}
    times = {key: math.inf if time > 4 * best[key[1]] else time for key, time in times.items()}
    for variant, base in variants.items():
        for name in names:
            if times[name, variant] == math.inf:
                times[name, base] = math.inf
    bases = [w for w in workloads if w not in variants]
    at = np.linspace(1, 4, 100)
    scores = {}
    for name in names:
        shares = np.zeros(100)
        for w in bases:
            fastest = min(times[other, w] for other in names)
            if times[name, w] < math.inf:
                shares += (times[name, w] / fastest <= at) / len(bases)
        scores[name] = float(np.sum((shares[1:] + shares[:-1]) / 2 * np.diff(at)) / 3)
    return scores


def imported(path, results, kind="algoperf", metric=None):
    return import_in_terminal(kind, str(path), str(results), metric)[1]


@pytest.mark.parametrize("ruleset", PUBLISHED)
def test_the_import_reproduces_published_scores_with_intervals(tmp_path, ruleset):
    path = TABLES / f"{ruleset}.csv"
    scores = imported(path, tmp_path)["scores"].set_index("optimizer")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    expected = defined({(r["submission"], r["workload"], int(r["study"])): float(r["time"]) for r in rows})
    for name, published in PUBLISHED[ruleset].items():
        found = scores.loc[name]
        assert found["score"] == pytest.approx(expected[name], abs=1e-12)
        assert found["score"] == pytest.approx(published, abs=5.1e-5)
        assert found["low"] <= found["score"] <= found["high"]
        assert found["low_tasks"] <= found["score"] <= found["high_tasks"]
    assert (scores["low"] < scores["high"]).sum() >= len(scores) - 1


@pytest.mark.parametrize("seed", range(12))
def test_the_import_follows_the_published_definition_on_tables_of_any_kind(tmp_path, seed):
    draw = np.random.default_rng(seed)
    names, bases = (
        [f"s{i}" for i in range(draw.integers(2, 7))],
        [f"w{i}" for i in range(draw.integers(1, 7))],
    )
    workloads = bases + [f"{base}_variant" for base in bases if draw.random() < 0.5]
    table = {}
    for name in names:
        for workload in workloads:
            for study in range(draw.integers(1, 6)):
                # Whole multiples, whose ratios are ends of the steps of the profile, or anything.
                kinds = (100 * draw.integers(1, 9), 10 ** draw.uniform(-3, 6), draw.uniform(1, 4))
                table[name, workload, study] = math.inf if draw.random() < 0.2 else float(kinds[seed % 3])
    table = {key: time for key, time in table.items() if draw.random() < 0.9}
    path = tmp_path / "table.csv"
    lines = [f"{n},{w}_jax,study_{s},{time!r}" for (n, w, s), time in table.items()]
    path.write_text("\n".join(["submission,workload,study,time", *lines]))
    scores = imported(path, tmp_path)["scores"].set_index("optimizer")["score"]
    expected = defined(table)
    # A workload that is missing everywhere is no workload of the table.
    assert scores.to_dict() == pytest.approx(expected, abs=1e-9)


def test_algoperfs_own_tables_of_medians_are_read(tmp_path):
    frame = pd.read_csv(TABLES / "self.csv").groupby(["submission", "workload"])["time"].median().unstack()
    frame.to_csv(tmp_path / "time_to_targets.csv")
    scores = imported(tmp_path / "time_to_targets.csv", tmp_path)["scores"].set_index("optimizer")["score"]
    assert scores.to_dict() == pytest.approx(PUBLISHED["self"], abs=5.1e-5)


def test_times_of_any_size_keep_their_ratios(tmp_path):
    (tmp_path / "t.csv").write_text("submission,workload,time\na,w,1e-300\nb,w,2e-300\na,v,3e11\nb,v,1e11\n")
    scores = imported(tmp_path / "t.csv", tmp_path)["scores"].set_index("optimizer")["score"]
    table = {("a", "w", 0): 1e-300, ("b", "w", 0): 2e-300, ("a", "v", 0): 3e11, ("b", "v", 0): 1e11}
    assert scores.to_dict() == pytest.approx(defined(table), abs=1e-12)


def test_a_column_says_which_workload_a_variant_belongs_to(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "submission,workload,time,base\na,digits,1,\na,hard,inf,digits\nb,digits,2,\nb,hard,3,digits\n"
    )
    scores = imported(path, tmp_path)["scores"].set_index("optimizer")["score"]
    assert scores.to_dict() == {"a": 0.0, "b": 1.0}


def test_imported_rows_are_reported_marked_and_never_count_as_stored(tmp_path):
    times = {
        ("a", "w"): (4000, 5000),
        ("b", "w"): (8000, 9000),
        ("a", "w_held"): (300, 300),
        ("b", "w_held"): (400, "inf"),
    }
    lines = [f"{n},{w},{k},{time}" for (n, w), each in times.items() for k, time in enumerate(each)]
    (tmp_path / "t.csv").write_text("\n".join(["submission,workload,study,time", *lines]))
    imported(tmp_path / "t.csv", tmp_path / "r")
    store = Store(tmp_path / "r")
    assert set(store.frame()["mode"]) == {IMPORTED}
    assert not store.passed_over
    assert not store.finished().keys() & {
        (cell.id(), "cpu", "vmap", 0) for cell in load("quickstart").cells()
    }
    content = Content.of(Selection(results=str(store.folder)), store)
    assert content.suite.name == IMPORTED
    page = index(content)
    assert "| a† |" in page
    assert "8 cells were imported from algoperf t.csv" in page
    assert "optbench import algoperf t.csv --results" in page
    assert r"after 4,500 \[4,000, 5,000\] s" in page
    assert "optbench run" not in page


def test_own_rows_survive_an_export_and_an_import(tmp_path):
    own = stored(
        tmp_path / "own",
        *(grid(opt=name, statuses={3: Status.DIVERGED}) for name in ("adam", "kron")),
        *(
            grid("mlp", name, level, statuses={0: Status.ERROR})
            for name, level in (("adam", 0.2), ("kron", 0.1))
        ),
    )
    chosen = Selection(task=("quadratic_10", "mlp"), results=str(own.folder))
    before = Content.of(chosen, own)
    export_in_terminal(chosen, str(tmp_path / "curves.csv"))
    imported(tmp_path / "curves.csv", tmp_path / "again", "csv")
    after = Content.of(Selection(task=("quadratic_10", "mlp")), Store(tmp_path / "again"))
    alike(before, after)


def test_algoperfs_rows_survive_an_export_and_an_import(tmp_path):
    imported(TABLES / "self.csv", tmp_path / "times")
    export_in_terminal(Selection(results=str(tmp_path / "times")), str(tmp_path / "curves.csv"))
    imported(tmp_path / "curves.csv", tmp_path / "again", "csv")
    alike(*(Content.of(Selection(), Store(tmp_path / name)) for name in ("times", "again")))
    scores = []
    for name in ("times", "again"):
        standing = Content.of(Selection(), Store(tmp_path / name)).standings["steps"]
        scores.append(profiles.algoperf_scores(standing.rows, *profiles.published(standing.frame)))
    pd.testing.assert_frame_equal(*scores, check_dtype=False)


def test_stages_survive_an_export_and_an_import(tmp_path):
    one = suite(tuning="grid", fresh=True)
    frame = tuned(tmp_path / "own", one, made(one, 2, 1e-4))
    assert set(frame["stage"]) == {"tuning", "report", "default"}
    curves.table(frame).to_csv(tmp_path / "curves.csv", index=False)
    sheet = Sheet("csv", str(tmp_path / "curves.csv"))
    store = keep(curves.rows(sheet), str(tmp_path / "again"), sheet)
    selection = Selection(results=str(store.folder)).found_in(store)
    again = selection.rows(selection.read(store), store.folder)
    columns = ["task", "optimizer", "trial", "seeds", "trials", "loss", "loss_low", "loss_high", "score"]
    tables = [
        summarise(rows)[columns].sort_values(["task", "optimizer"], ignore_index=True)
        for rows in (frame, again)
    ]
    pd.testing.assert_frame_equal(*tables, check_dtype=False)


def alike(before: Content, after: Content) -> None:
    """The same outcomes, ranks, scores and sentences."""
    names = ["problem", "optimizer", "trial", "seed"]
    for axis in ("steps", "gradients", "seconds"):
        one, two = (
            content.standings[axis].outcomes.sort_values(names, ignore_index=True)
            for content in (before, after)
        )
        numbers = one.select_dtypes("number").columns
        pd.testing.assert_frame_equal(one[numbers], two[numbers], check_dtype=False, rtol=1e-9)
        assert (one["status"] == two["status"]).all()
        pd.testing.assert_frame_equal(
            before.standings[axis].ranks, after.standings[axis].ranks, check_dtype=False
        )
        assert before.standings[axis].flips == after.standings[axis].flips
        assert before.standings[axis].refusals == after.standings[axis].refusals
    assert before.headline == after.headline
    texts = [[verdict.sentence for verdict in content.verdicts] for content in (before, after)]
    assert sorted(texts[0]) == sorted(texts[1])


HEAD = "task,optimizer,seed,step,loss\n"
GOOD = HEAD + "t,a,0,0,2\nt,a,0,1,1\n"
BAD = {
    "empty": ("", "has no rows"),
    "header only": (HEAD, "has no rows"),
    "no column": ("task,optimizer,seed,loss\nt,a,0,1\n", "has no column 'step'"),
    "two columns of a name": ("task,optimizer,seed,step,loss,loss\nt,a,0,0,1,1\n", "two columns 'loss'"),
    "a short line": (GOOD + "t,a,0\n", "line 4: 3 values"),
    "text": (HEAD + "t,a,0,0,low\n", "line 2: loss 'low' is not a number"),
    "NaN": (HEAD + "t,a,0,0,nan\n", "is not a finite number"),
    "no value": (HEAD + "t,a,0,0,\n", "is not a number"),
    "half a seed": (HEAD + "t,a,0.5,0,1\n", "is not a whole number"),
    "a negative step": (HEAD + "t,a,0,-1,1\n", "is less than 0"),
    "the same twice": (GOOD + "t,a,0,1,1\n", "is there twice"),
    "a formula": (HEAD + "t,=cmd|' /C calc'!A0,0,0,1\n", "begins like a formula"),
    "a control character": (HEAD + "t,a\x1b[2J,0,0,1\n", "is no name"),
    "a long name": (HEAD + f"t,{'a' * 300},0,0,1\n", "is no name"),
    "a quote left open": (HEAD + 't,"a,0,0,1\n', "is no CSV file"),
    "NUL": (HEAD + "t,a\x00,0,0,1\n", "is no"),
    "seconds that go back": (HEAD.strip() + ",seconds\nt,a,0,0,2,5\nt,a,0,1,1,4\n", "less than at an earlier step"),
    "negative seconds": (HEAD.strip() + ",seconds\nt,a,0,0,2,-5\n", "is less than 0"),
    "two budgets": (HEAD.strip() + ",steps\nt,a,0,0,2,5\nt,b,0,0,1,6\n", "differs from '5.0' .* same task"),
    "semicolons": (GOOD.replace(",", ";").replace("1\n", "1,5\n"), "has ';' between"),
    "past the budget": (HEAD.strip() + ",steps\nt,a,0,0,2,5\nt,a,0,9,2,5\n", "is past the 5 steps"),
    "an unknown status": (HEAD.strip() + ",status\nt,a,0,0,2,lost\n", "is not one of done"),
    "a question that is none": (HEAD.strip() + ',question\nt,a,0,0,2,"{""targets"": 3}"\n', "is no question"),
    "an accuracy": ("task,optimizer,seed,step,metric,value\nt,a,0,0,accuracy,1\n", "less must be better"),
    "two metrics": ("task,optimizer,seed,step,metric,value\nt,a,0,0,x,1\nt,a,0,0,y,1\n", "Say which one decides"),
}  # fmt: skip
BAD_TIMES = {
    "no time": ("submission,workload,study\na,w,0\n", "has no column 'time'"),
    "a negative time": ("submission,workload,study,time\na,w,0,-3\n", "is less than 0"),
    "NaN": ("submission,workload,study,time\na,w,0,nan\n", "is not a finite number"),
    "the same twice": ("submission,workload,study,time\na,w,0,3\na,w,0,4\n", "has a second time"),
    "text": ("submission,workload,study,time\na,w,0,fast\n", "is not a number"),
    "an unknown base": ("submission,workload,time,base\na,w,1,v\n", "is no workload of the file"),
}


@pytest.mark.parametrize(
    ("kind", "case"), [("csv", each) for each in BAD] + [("algoperf", each) for each in BAD_TIMES]
)
def test_a_bad_file_is_one_sentence_and_writes_nothing(tmp_path, kind, case):
    text, says = (BAD if kind == "csv" else BAD_TIMES)[case]
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match=says.replace("(", r"\(")) as caught:
        imported(tmp_path / "bad.csv", tmp_path / "r", kind)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert not (tmp_path / "r").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("values", [(2,), (2, 1e299), (2, 1e-299), (2, 0), (-2, -3)])
def test_values_of_any_size_and_runs_of_one_line_have_a_report(tmp_path, values):
    lines = [f"t,a,0,0.1,{step},{value},{step}" for step, value in enumerate(values)]
    (tmp_path / "t.csv").write_text(
        "\n".join([HEAD.replace("step", "learning_rate,step").strip() + ",seconds", *lines])
    )
    imported(tmp_path / "t.csv", tmp_path / "r", "csv")
    write_report(
        str(tmp_path / "r"), str(tmp_path), Selection(results=str(tmp_path / "r")), figures=values == (2,)
    )
    page = (tmp_path / IMPORTED / "index.md").read_text()
    assert "processor ()" not in page
    assert "**machine**" not in page


def test_a_lead_without_spread_has_no_p(tmp_path):
    (tmp_path / "t.csv").write_text("submission,workload,time\na,w,1\nb,w,2\na,v,3\nb,v,4\n")
    imported(tmp_path / "t.csv", tmp_path / "r")
    content = Content.of(Selection(), Store(tmp_path / "r"))
    assert not any("(p = 0)" in line for line in content.standings["steps"].sentences())


def test_bytes_that_are_no_text_are_one_sentence(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(UserError, match="no CSV file in UTF-8"):
        imported(tmp_path / "bad.csv", tmp_path / "r", "csv")


def test_formulas_are_escaped_and_read_again(tmp_path):
    (tmp_path / "in.csv").write_text(HEAD + "t,'=1+1,0,0,2\nt,'=1+1,0,1,1\n")
    imported(tmp_path / "in.csv", tmp_path / "r", "csv")
    assert set(Store(tmp_path / "r").frame()["optimizer"]) == {"=1+1"}
    export_in_terminal(Selection(results=str(tmp_path / "r")), str(tmp_path / "out.csv"))
    assert ",'=1+1," in (tmp_path / "out.csv").read_text()
    imported(tmp_path / "out.csv", tmp_path / "again", "csv")
    assert set(Store(tmp_path / "again").frame()["optimizer"]) == {"=1+1"}


def test_an_import_does_not_mix_with_own_rows_of_the_same_name(tmp_path):
    own = stored(tmp_path / "own", grid(opt="adam"))
    (tmp_path / "in.csv").write_text(GOOD.replace("t,a", "quadratic_10,adam"))
    with pytest.raises(UserError, match="has runs of its own of adam on quadratic_10"):
        imported(tmp_path / "in.csv", own.folder, "csv")


def test_imported_and_own_rows_share_a_table_and_only_the_imported_are_marked(tmp_path):
    own = stored(tmp_path / "r", grid(opt="adam"))
    head = "task,optimizer,seed,step,loss,steps,framework,device_kind\n"
    lines = [
        f"quadratic_10,theirs,{seed},{step},{loss},40,jax,cpu"
        for seed in range(5)
        for step, loss in ((0, 1), (40, 1e-9))
    ]
    (tmp_path / "in.csv").write_text(head + "\n".join([*lines, "lm,a,0,0,2,40,jax,cpu"]))
    imported(tmp_path / "in.csv", own.folder, "csv")
    content = Content.of(Selection(task=("quadratic_10",), results=str(own.folder)), own)
    assert dict(zip(content.summary["optimizer"], content.summary["apart"], strict=True)) == {
        "adam": "", "theirs": "imported from csv in.csv",
    }  # fmt: skip
    assert content.verdicts[0].leaders == ["theirs"]
    assert "theirs†" in index(content)
    assert Content.of(Selection(results=str(own.folder), task=("lm",)), own).suite.name == IMPORTED


def test_a_file_that_is_imported_again_replaces_its_rows(tmp_path):
    for loss in (1, 0.5):
        (tmp_path / "in.csv").write_text(HEAD + f"t,a,0,0,2\nt,a,0,1,{loss}\n")
        imported(tmp_path / "in.csv", tmp_path / "r", "csv")
    frame = Store(tmp_path / "r").frame()
    assert [list(values) for values in frame["evaluation.loss"]] == [[2, 0.5]]


def test_measured_seconds_are_the_clock_of_imported_curves(tmp_path):
    lines = [
        f"t,{name},{seed},{step},{2.0 - step},{step * pace}"
        for name, pace in (("a", 3.0), ("b", 7.0))
        for seed in (0, 1)
        for step in (0, 1)
    ]
    (tmp_path / "in.csv").write_text(
        HEAD.strip() + ",seconds,target\n" + "".join(f"{line},1\n" for line in lines)
    )
    imported(tmp_path / "in.csv", tmp_path / "r", "csv")
    content = Content.of(Selection(results=str(tmp_path / "r")), Store(tmp_path / "r"))
    times = content.standings["seconds"].outcomes.groupby("optimizer")["time"].first()
    assert times["a"] == 3.0
