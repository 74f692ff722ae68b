"""The report, from small made-up rows: what it says, what it never drops, and that it says the same again."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optbench
from optbench import UserError, optimizers, tasks, tuning
from optbench.cell import Cell, Schedule, Status, Trace
from optbench.execute.request import Request
from optbench.protocol import Counts
from optbench.record import question_text
from optbench.report import panels
from optbench.report.caveats import decays
from optbench.report.charts import ticks
from optbench.report.compare import compare, frame_of
from optbench.report.content import FILES, Content
from optbench.report.figures import style
from optbench.report.look import COLOURS, DASHES, FIRST, NAMED, VARIANTS, look, looks, order
from optbench.report.markdown import escape, slug, table
from optbench.report.panels.cost import costs
from optbench.report.panels.curves import draw_curves, draw_sensitivity
from optbench.report.panels.optimizers import Overview
from optbench.report.panels.standings import times
from optbench.report.parts import Table, sections
from optbench.report.problem import problems
from optbench.report.selection import Selection
from optbench.report.write import csv, write_report
from optbench.stats.curves import curve, median_interval, ranks
from optbench.stats.outcomes import outcomes
from optbench.stats.summary import summarise, texts
from optbench.store import Store
from optbench.suite import Suite
from optbench.wording import digits_apart, interval, number, value, whole
from tests.opening import opening

FACTS = {
    "optbench_version": "0.1.0", "commit": "0123456789ab", "python": "3.11.7", "version.jax": "0.10.2",
    "platform": "Linux", "cpu_model": "A <fast> CPU", "threads": 1,
    "device": "cpu:0", "device_kind": "cpu", "mode": "vmap",
}  # fmt: skip
SECONDS = {
    "program_seconds": 0.5, "compile_seconds": 1.25, "evaluation_seconds": 0.1, "lanes": 4, "parameters": 10,
}  # fmt: skip
METRICS = ("train_loss", "validation_loss", "validation_error", "test_error")
STEPS = 40


def trace(cell: Cell, level: float, status: Status = Status.DONE, reason: str = "") -> Trace:
    """A run whose loss falls from 1 to `level`, a little different for each seed."""
    final = level * (1 + 0.1 * cell.seed)
    ran = {Status.DONE: cell.steps, Status.REACHED: cell.steps // 2, Status.DIVERGED: 5}.get(status, 0)
    if not ran:
        return Trace(cell, status, reason)
    losses = final ** np.linspace(0, 1, ran + 1)
    if status == Status.DIVERGED:
        losses[-1] = math.inf
    at = np.array([step for step in cell.task.evaluation_steps(cell.steps) if step <= ran], np.int32)
    metrics = ("loss",) if cell.task.selection == "loss" else METRICS
    kept = losses[:ran] if status == Status.DONE else losses
    evaluations = {name: losses[at] for name in metrics}
    return Trace(
        cell, status, reason, kept, at, evaluations, Counts(int(at[-1])), SECONDS | {"program_steps": ran}
    )


def grid(
    task="quadratic_10", opt="adam", level=1e-3, seeds=5, statuses=None, trials=4, steps=STEPS, **fields
) -> list[Trace]:
    """An optimizer over its learning rates: the second is best; `statuses` maps a trial's place to its status."""
    found = []
    for place, optimizer in enumerate(optimizers.parse(opt).trials(trials)):
        status = (statuses or {}).get(place, Status.DONE)
        reason = "RuntimeError: it | broke\n<b>" if status == Status.ERROR else ""
        for seed in range(seeds):
            cell = Cell(tasks.parse(task), optimizer, seed=seed, steps=steps, **fields)
            found.append(trace(cell, level * 3.0 ** abs(place - 1), status, reason))
    return found


def stored(folder, *grids: list[Trace], **facts) -> Store:
    """A store with these, one file each, all finished at the same made-up time."""
    store = Store(folder)
    store.prepare()
    for traces in grids:
        store.write(traces, FACTS | facts)
    return store


def report(folder, store: Store, suite="quickstart", figures=False, **narrow) -> tuple[str, str]:
    """The page and what the terminal says."""
    _, said = write_report(str(store.folder), str(folder), Selection(suite=suite, **narrow), figures=figures)
    return (folder / suite / "index.md").read_text(), said


def told(store: Store, suite="quickstart", **narrow):
    """What a report would say, without its figures."""
    return Content.of(Selection(suite=suite, **narrow), store)


def shown(content):
    """The sections of a report."""
    return sections(content, panels.PANELS)


BESIDE = {name: name for name in FILES}


def index(content) -> str:
    """The Markdown alone, without drawing what it names."""
    from optbench.report.page import index

    return index(content, shown(content), BESIDE).decode()


def page(content, files=None) -> str:
    """The HTML alone."""
    from optbench.report.page import page

    return page(content, shown(content), files or {}, BESIDE).decode()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report with a clear leader, a tie, a lane that diverged, a program that failed and a variant."""
    folder = tmp_path_factory.mktemp("report")
    store = stored(
        folder / "results",
        grid(opt="adam", level=1e-5),
        grid(opt="sgd", level=1e-3, statuses={3: Status.DIVERGED}),
        grid(opt="kron", statuses=dict.fromkeys(range(4), Status.ERROR)),
        grid("mlp", "adam", 0.05),
        grid("mlp", "sgd[momentum=0.9]", 0.05),
    )
    page, said = report(folder / "reports", store, figures=True)
    return folder, page, said


def test_the_costs_tell_how_much_data_a_program_gets_through(tmp_path):
    """4 lanes of 40 steps of 128 examples in half a second; a function has no data."""
    found = costs(told(stored(tmp_path, grid("mlp", seeds=2), grid(seeds=2))))
    place = found.header.index("per second")
    assert {row[0]: row[place] for row in found.rows} == {"mlp": "41,000 examples", "quadratic_10": "-"}


MEMORY = {
    "parameter_bytes": 104_488, "state_bytes": 208_984, "program_bytes": 7_172_260,
    "worker_peak_bytes": 468_299_776, "device_peak_bytes": 37_654_528,
}  # fmt: skip


def test_the_costs_tell_what_a_lane_keeps_what_its_program_needs_and_the_peak(tmp_path):
    """In megabytes, in every form of the report; the peak is the worker's, or the accelerator's where there is one."""
    store = stored(tmp_path, grid("mlp", seeds=2), **MEMORY)
    store.write(grid("mlp", seeds=2), FACTS | MEMORY | {"device_kind": "H100"})
    store.write(grid("mlp", seeds=2, framework="torch"), FACTS | MEMORY | {"program_bytes": None})
    store.write(grid(seeds=2), FACTS | {"parameter_bytes": 40, "state_bytes": 88})
    content = told(store)
    lines = index(content).partition("## Cost")[2].split("\n\n")[1].splitlines()
    header, _, *rows = [line.strip("| ").split(" | ") for line in lines]
    assert header[-3:] == ["lane MB", "program MB", "peak MB"]
    assert {row[0]: tuple(row[-3:]) for row in rows} == {
        "mlp (jax, cpu)": ("0.313", "7.17", "468"),
        "mlp (jax, H100)": ("0.313", "7.17", "37.7"),
        "mlp (torch, cpu)": ("0.313", "-", "468"),
        "quadratic_10": (r"\<0.001", "-", "-"),
    }
    html = page(content)
    assert "<td>0.313</td><td>7.17</td><td>37.7</td></tr>" in html
    assert "<td>&lt;0.001</td><td>-</td><td>-</td></tr>" in html
    table = pd.read_csv(io.BytesIO(csv(content.summary))).set_index("problem")
    found = table.loc["mlp (jax, cpu)", ["lane_megabytes", "program_megabytes", "peak_megabytes"]]
    np.testing.assert_allclose(found.astype(float), [0.313472, 7.17226, 468.3], rtol=1e-5)


def test_the_page_says_who_leads_and_where_nobody_does(written):
    _, page, said = written
    assert "On 1 toy: adam leads alone on 1 (quadratic_10)." in page
    assert "On 1 real task: the best are not distinguishable with these seeds." in page
    assert "adam has the lowest final loss, 1.2e-5" in page
    assert "is not distinguishable from it with these seeds" in page
    assert "On 1 real task: the best" in said
    assert "Next: optbench run --suite quickstart --task rosenbrock_2,quadratic_100,rosenbrock_100" in said


def test_losses_between_one_and_a_half_have_an_axis_that_can_be_read(tmp_path):
    """A network whose loss halves had one tick, and half the panel was empty; paper and page share their axes."""
    content = told(stored(tmp_path, grid("mlp", level=0.45, trials=2)))
    [data] = content.charts
    with style():
        drawn = [*draw_curves(content, 0).axes, draw_sensitivity(content, 0).axes[0]]
    for axes, chart in zip(drawn, [*data["training"]["progress"], data["rates"]], strict=True):
        (low, high), found = axes.get_ylim(), list(axes.get_yticks())
        labels = [text.get_text() for text in axes.get_yticklabels()]
        assert len(set(labels)) == len(found) >= 3, labels
        assert all(low <= tick <= high for tick in found)
        assert chart["ticks"] == found
        assert high < 1.3 * max(y for line in chart["lines"] for y in line["y"]), "little is left empty"


@given(st.floats(-9, 9), st.floats(0.01, 18))
def test_a_log_axis_has_three_to_seven_ticks_at_round_numbers(power, decades):
    low, high = 10**power, 10 ** (power + decades)
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert found == sorted(set(found))
    assert low <= found[0] < found[-1] <= high
    assert found == [float(f"{tick:.4g}") for tick in found]


def test_what_failed_is_named_with_its_reason_escaped(written):
    _, page, _ = written
    assert "quadratic_10, sgd: 5 of 20 lanes diverged, at learning rate 3" in page
    assert "quadratic_10, kron: 20 of 20 lanes error" in page
    assert r"RuntimeError: it \| broke \<b\>" in page
    assert "| diverged | 5 | the loss stopped being a finite number" in page
    assert "| quadratic_10 | kron | - | failed |" in page


def test_the_numbers_are_those_of_the_terminal(written):
    folder, page, _ = written
    for row in summarise(Store(folder / "results").frame()).to_dict("records"):
        best, loss = texts(row)[2:4]
        assert best.replace("*", "\\*") in page
        assert loss.partition(" ")[0] in page
    assert (folder / "reports/quickstart/table.csv").read_text().count("\n") == 6


def test_names_are_escaped_and_every_picture_is_there(written):
    folder, page, _ = written
    assert r"sgd\[momentum=0.9\]" in page
    assert "sgd[momentum" not in page.partition("## Reproduce")[0]
    names = {part.partition(")")[0] for part in page.split("](figures/")[1:]}
    assert len(names) == 10
    for name in names:
        data = (folder / "reports/quickstart/figures" / name).read_bytes()
        assert data.startswith((b"\x89PNG", b"<?xml"))


def test_the_commands_ask_for_these_cells_again(written):
    folder, page, _ = written
    run = "optbench run --suite quickstart --task quadratic_10 --opt kron,adam --lr 0.0001,0.00215,0.0464,1 --steps 40"
    assert run in page.splitlines()
    # Four trials are not the equal grid of nine, which a run without --lr would compute.
    frame = Store(folder / "results").frame()
    wanted = set()
    for line in (
        line for line in page.splitlines() if line.startswith("optbench run --suite") and "--steps" in line
    ):
        words = shlex.split(line)[2:]
        options = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2], strict=True))
        options["steps"] = int(options["steps"])
        lists = {name: (options.pop(name),) for name in ("task", "opt", "lr") if name in options}
        wanted |= {cell.id() for cell in Request(**options, **lists).cells()}
    assert set(frame["cell"]) <= wanted


def test_the_commands_say_how_lanes_ran_where_it_was_not_the_plans_choice(tmp_path):
    """They used to leave out `--lanes`, and computed other cells' keys."""
    store = stored(tmp_path, grid(opt="adam"), grid(opt="sgd"))
    store.write(grid(opt="kron"), FACTS | {"mode": "map"})
    lines = told(store).commands
    assert ["--lanes map" in line for line in lines if "--opt kron" in line] == [True]
    assert not [line for line in lines if "--opt adam" in line and "--lanes" in line]


def test_the_same_store_gives_the_same_bytes(written):
    folder, _, _ = written
    report(folder / "second", Store(folder / "results"), figures=True)
    first, second = folder / "reports/quickstart", folder / "second/quickstart"
    files = sorted(path.relative_to(first) for path in first.rglob("*.*"))
    assert len(files) == 16
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_markdown_leaves_long_tables_to_the_page():
    """That of forty optimizers on twelve tasks was 2.4 MB, more than a forge renders."""
    rows = [(str(i),) for i in range(251)]
    assert Table("numbers", ["n"], rows[1:]).markdown().count("\n") == 251
    assert Table("numbers", ["n"], rows).markdown() == "251 rows, which `index.html` shows."


def test_a_report_can_be_narrowed_down(written):
    folder, _, _ = written
    page = index(told(Store(folder / "results"), opt=("sgd,adam",), task=("quadratic_10",)))
    assert "kron" not in page.partition("## Verdict")[2].partition("optbench run")[0]
    assert "optbench report --suite quickstart --opt sgd,adam --task quadratic_10" in page


def test_settings_are_never_averaged(tmp_path):
    store = stored(
        tmp_path,
        grid(level=1e-3, seeds=3),
        grid(level=1e-5, seeds=3, dtype="float64"),
        grid(level=1e-5, seeds=3, steps=30),
        grid(level=1e-7, seeds=3, schedule=Schedule("cosine")),
    )
    frame = store.frame()
    assert [problem.name for problem in problems(frame, outcomes(frame))] == [
        "quadratic_10 (40 steps, constant, float32)",
        "quadratic_10 (40 steps, constant, float64)",
        "quadratic_10 (30 steps, constant, float32)",
        "quadratic_10 (40 steps, cosine[warmup=0], float32)",
    ]
    assert summarise(frame)["seeds"].tolist() == [3, 3, 3, 3]


def test_precisions_are_kept_apart_also_where_older_rows_said_it_in_the_dtype(tmp_path):
    store = stored(tmp_path, grid(seeds=2), grid(level=1e-5, seeds=2, precision="bfloat16"))
    frame = store.frame()
    assert set(frame["dtype"]) == {"float32"}
    long = frame["dtype"].where(frame["precision"] == "float32", "float32 with bfloat16 products")
    for rows in (frame, frame.assign(dtype=long), frame.assign(dtype=long).drop(columns="precision")):
        names = [problem.name for problem in problems(rows, outcomes(rows))]
        assert names == ["quadratic_10 (float32 products)", "quadratic_10 (bfloat16 products)"]
    selection = Selection(precision="bfloat16")
    assert set(selection.rows(selection.read(store), store.folder)["precision"]) == {"bfloat16"}
    assert "--precision bfloat16" in selection.report_command()


def test_a_cell_in_two_lane_modes_counts_once_and_is_told(tmp_path):
    store = stored(tmp_path, grid(level=1e-3))
    store.write(grid(level=1e-4), FACTS | {"mode": "map"})
    content = told(store)
    assert content.summary["seeds"].tolist() == [5]
    assert content.summary["loss"].iloc[0] == pytest.approx(1.2e-4)
    assert (
        "20 cells are stored in more than one lane mode or width; the newest of each is shown."
        in content.caveats
    )


def test_microseconds_of_a_processor_that_others_had_are_told(tmp_path):
    """Guards seconds that somebody else took; an accelerator's program has little processor time of its own."""

    def doubts(name, **facts):
        return "\n".join(told(stored(tmp_path / name, grid(seeds=2), **facts)).caveats)

    assert "overestimated by factors of 2.5 (adam on quadratic_10)." in doubts(
        "slow", program_cpu_seconds=0.2
    )
    assert "overestimated" not in doubts("alone", program_cpu_seconds=0.48)
    assert "overestimated" not in doubts("short", program_seconds=0.04, program_cpu_seconds=0.01)
    assert "overestimated" not in doubts("gpu", program_cpu_seconds=0.2, device_kind="H100")


def test_unequal_budgets_and_few_seeds_are_told(tmp_path):
    content = told(stored(tmp_path, grid(opt="adam", seeds=2), grid(opt="sgd", seeds=2, trials=3)))
    said = "\n".join(content.caveats)
    assert "adam 4 learning rates x 2 seeds and sgd 3 learning rates x 2 seeds" in said
    assert "Fewer than 5 seeds on quadratic_10" in said
    assert "quadratic_10 ran 40 steps; the suite asks for 1,000." in said
    assert "an indication, not a finding" in content.headline


def test_a_ranking_of_unequal_budgets_is_refused_unless_it_is_asked_for(tmp_path):
    store = stored(
        tmp_path,
        *(grid(task, opt, trials=trials, seeds=2) for task in ("quadratic_10", "rosenbrock_2")
          for opt, trials in (("adam", 4), ("sgd", 3))),
    )  # fmt: skip
    content = told(store)
    assert "adam" in content.standings["steps"].refusals[0]
    assert "Standings" not in index(content)
    assert "sgd got 3 trials, adam 4" in index(content)
    assert "or rank them anyway: --allow-unequal" in index(content)
    allowed = Content.of(Selection(suite="quickstart"), store, allow_unequal=True)
    assert allowed.standings["steps"].ranks["optimizer"].tolist() == ["adam", "sgd"]
    assert allowed.commands[-1].endswith("--allow-unequal")
    assert set(content.standings["steps"].differing["says"]) <= set(allowed.caveats)


def test_steps_to_a_target_do_not_depend_on_which_tasks_share_a_frame(tmp_path):
    one = grid("rosenbrock_2", level=1e-6, steps=97)
    stores = [stored(tmp_path / "a", one), stored(tmp_path / "b", one, grid("quadratic_10"))]
    tables = [summarise(store.frame()).set_index("task") for store in stores]
    alone, beside = (table.loc["rosenbrock_2", "steps_to_target"] for table in tables)
    assert alone == beside
    assert alone % 3  # not at an evaluation


def test_a_curve_counts_lost_lanes_as_infinite_and_stops_with_the_last():
    rows = pd.DataFrame(
        {
            "status": ["done", "diverged", "reached"],
            "losses": [np.array([4.0, 3.0, 2.0]), np.array([4.0, np.inf]), np.array([4.0, 1.0])],
            "evaluation_steps": [np.array([0, 3]), np.array([0]), np.array([0])],
            "evaluation.loss": [np.array([4.0, 1.5]), np.array([4.0]), np.array([4.0])],
            "question": question_text(tasks.parse("quadratic_10")),
        }
    )
    found = curve(rows, "loss")
    assert found["step"].tolist() == [0, 1, 2, 3]
    assert found["middle"].tolist() == [4.0, 3.0, 2.0, 1.5]
    assert found["low"].tolist() == [4.0, 1.0, 1.0, 1.0]
    assert found["high"].tolist() == [4.0, math.inf, math.inf, math.inf]
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (2.0, 1.0, 3.0)
    assert ranks(20)[0] > 0


@pytest.mark.parametrize(
    ("make", "narrow", "said"),
    [
        (list, {}, "nothing is stored in"),
        (lambda: [grid("quadratic[dim=3]")], {}, "Or run: optbench run --suite quickstart"),
        (lambda: [grid()], {"opt": ("sgd",)}, "no rows of optimizer sgd"),
        (lambda: [grid()], {"steps": 41}, "no rows of steps 41"),
        (lambda: [grid()], {"opt": ("adan",)}, "Did you mean"),
    ],
)
def test_what_is_not_there_is_a_message(tmp_path, make, narrow, said):
    with pytest.raises(UserError, match=said):
        report(tmp_path / "reports", stored(tmp_path / "results", *make()), **narrow)
    assert not (tmp_path / "reports").exists()


def test_colours_stand_out_on_both_grounds_and_are_told_apart():
    """3:1 from the ground (WCAG 2.2, 1.4.11); the first seven apart for the colour deficient (Machado et al. 2009).

    Distances in OKLab, a hundred times.
    """
    seen = {
        "all": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }  # fmt: skip
    lms = [
        [0.4122215, 0.5363325, 0.0514460],
        [0.2119035, 0.6806995, 0.1073970],
        [0.0883025, 0.2817188, 0.6299787],
    ]
    lab = [
        [0.2104543, 0.7936178, -0.0040720],
        [1.9779985, -2.4285922, 0.4505937],
        [0.0259040, 0.7827718, -0.8086758],
    ]

    def linear(text):
        parts = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)

    def contrast(one, other):
        low, high = sorted(linear(text) @ [0.2126, 0.7152, 0.0722] for text in (one, other))
        return (high + 0.05) / (low + 0.05)

    for place, ground in enumerate(("#ffffff", "#15181c")):
        colours = [pair[place] for pair in COLOURS]
        assert min(contrast(colour, ground) for colour in colours) >= 3
        for name, matrix in seen.items():
            points = [
                np.array(lab) @ np.cbrt(lms @ np.clip(matrix @ linear(colour), 0, 1))
                for colour in colours[:FIRST]
            ]
            gaps = [100 * np.linalg.norm(p - q) for i, p in enumerate(points) for q in points[:i]]
            assert min(gaps) >= 8, f"{name} on {ground}"


def test_looks_differ_and_do_not_depend_on_the_company():
    every = list(optimizers.names())
    drawn = looks(every)
    assert len(set(drawn.values())) == len(every)
    assert {name: each.colour for name, each in drawn.items()} == {name: look(name).colour for name in every}
    assert [drawn[name] for name in NAMED] == [look(name) for name in NAMED], "the first keep their look"
    assert len({look(name).colour for name in NAMED[:7]}) == 7
    assert look("adam[b1=0.8]").colour == look("adam").colour
    assert look("adam[b1=0.8]") != look("adam[b1=0.7]")
    assert not set(DASHES) & set(VARIANTS)
    assert len(set(COLOURS)) == len(COLOURS)
    assert order(["sgd", "adam[b1=0.8]", "gone", "adam"]) == ["adam", "adam[b1=0.8]", "sgd", "gone"]


def test_of_two_optimizers_of_one_colour_the_later_has_other_dashes_and_another_marker():
    names = [f"mine_{i}" for i in range(40)]
    one, other = next((a, b) for a in names for b in names if a < b and look(a)[:2] == look(b)[:2])
    drawn = looks([other, one])
    assert drawn[one] == look(one)
    assert drawn[other].colour == drawn[one].colour
    assert drawn[other].dash != drawn[one].dash
    assert drawn[other].marker != drawn[one].marker
    assert len(set(looks(names).values())) == len(names)


def test_markdown_shows_text_as_it_is():
    assert escape("rosenbrock_2 _x_ a|b\n<i>") == r"rosenbrock_2 \_x\_ a\|b \<i\>"
    assert escape("[a](b) `c` *d*") == r"\[a\](b) \`c\` \*d\*"
    assert slug("quadratic[dim=50,condition=1e3]") == "quadratic-dim-50-condition-1e3"
    assert slug("../..") == "unnamed"
    assert table(("a", "b"), [("x|y", "1")]).splitlines()[2] == r"| x\|y | 1 |"


def test_numbers_are_short_and_have_the_digits_of_their_interval():
    texts = [number(n) for n in (1.234e-8, 0.012, 1234.5, 1e7, math.nan)]
    assert texts == ["1.23e-8", "0.012", "1234", "1e7", "-"]
    assert interval(1.9967, 1.98531, 2.02590) == "1.9967 [1.985, 2.026]"
    assert interval(9.9e-9, 9.8e-9, 9.91e-9) == "9.9e-9 [9.8e-9, 9.91e-9]"
    assert interval(3.4e-4, 6.31e-6, 5.8e-4) == "0.00034 [6.3e-6, 0.00058]"
    assert interval(1.0, 0.5, math.inf) == "1 [0.5, failed]"
    assert interval(math.inf, 0.5, math.inf) == "failed"
    assert interval(1.64, 1.03, 2.7) == "1.64 [1, 2.7]"
    assert interval(1.64, 1.03, 2.7, beside=1) == "1.64 [1.03, 2.7]"
    assert interval(0.5, 0.3, 0.9996, beside=1) == "0.5 [0.3, 0.9996]"
    assert interval(0.5, 0.3, 1 - 1e-13, beside=1) == "0.5 [0.3, 1]", "no more digits than there are"
    assert value("test_error", 0.1) == "10.0%"
    assert value("test_error", 0.4672, 0.4511, 0.4799) == "46.72% [45.1, 48.0]"
    assert value("loss", 0.4672) == "0.467"
    assert whole(1234, 1200, math.inf) == "1,234 [1,200, never]"
    assert digits_apart([0.49991, 0.49987, 3.0]) == 5


PARTS = st.floats(0, 1e6).map(lambda part: part if part > 1e-200 else 0.0)


@given(st.floats(-1e9, 1e9).map(lambda low: low if abs(low) > 1e-200 else 0.0), PARTS, PARTS)
def test_an_interval_as_written_holds_the_interval(low, more, most):
    high = low + more + most
    written = interval(low + more, low, high).replace("]", "").replace("[", ",").split(",")
    if len(written) == 3:
        _, least, top = map(float, written)
        assert least <= low + 1e-5 * abs(low)
        assert top >= high - 1e-5 * abs(high)


def tuned_run(folder, ruleset="quasi", **changes) -> Store:
    """adam and sgd, four trials on three seeds each, what won (the third) and what was untuned on fresh ones."""
    things = (tasks.parse("quadratic_10"),), (optimizers.parse("adam"), optimizers.parse("sgd"))
    one = Suite("s", *things, trials=4, seeds=3, steps=STEPS, tuning=ruleset, fresh=True, **changes)
    found, (setting,) = [], one.settings(things[0][0])
    for each in one.optimizers:
        trials = one.trials_of(each)
        for place, trial in enumerate(trials):
            for seed in tuning.seeds(tuning.CHOOSING[ruleset], one.seeds, True):
                cell = one.cell(things[0][0], setting, trial.at, seed)
                found.append(level_at(cell, 1e-4 * 10.0 ** abs(place - 2)))
        won = one.reporting({(things[0][0], setting, each): trials[2].at})
        plain = one.reporting({(things[0][0], setting, each): each})
        found += [level_at(cell, 2e-3 if each.name == "adam" else 5e-3) for cell in won]
        found += [level_at(cell, 0.7) for cell in plain]
    return stored(folder, found)


def level_at(cell: Cell, level: float) -> Trace:
    """A run that ends at a level, whatever its seed."""
    return dataclasses.replace(trace(dataclasses.replace(cell, seed=0), level), cell=cell)


@pytest.mark.parametrize("ruleset", ["quasi", "grid"])
def test_a_tuned_report_shows_what_chose_nothing(tmp_path, ruleset):
    store = tuned_run(tmp_path / "results", ruleset)
    narrow = {"tuning": ruleset, "trials": 4, "fresh": True}
    page = index(told(store, task=("quadratic_10",), **narrow))
    assert "adam has the lowest final loss, 0.002; better than each other optimizer (paired t test, p" in page
    assert "Selected among up to 4 trials by the median over 2 seeds; reported on 3 fresh seeds" in page
    assert "same seeds" not in page.partition("## Table")[0]
    assert "| quadratic_10 | adam (untuned) | 0.001 | 0.7 |" in page
    rate = "learning_rate=0.6744" if ruleset == "quasi" else "learning_rate=0.0464"
    assert f"| quadratic_10 | adam | {rate}" in page
    assert "Unequal budgets" not in page
    command = "--opt adam,sgd --seeds 3 --steps 40 --trials 4" + " --tuning quasi" * (ruleset == "quasi")
    assert command in page
    if ruleset == "quasi":  # the first four of the suite's nine
        content = told(store, task=("quadratic_10",), tuning=ruleset)
        assert command in index(content)
        assert content.selection.setting_of(content.newest)["trials"] == 4


def test_a_plain_report_ignores_what_other_rulesets_ran(tmp_path):
    store = tuned_run(tmp_path / "results")
    store.write(grid(level=1e-3, seeds=3), FACTS)
    page = index(told(store, suite="classic", task=("quadratic_10",)))
    assert "| done | 12 |" in page
    assert "untuned" not in page.partition("## Table")[2].partition("##")[0]
    assert "were chosen and results reported on the same seeds" in page


def test_a_winner_that_has_not_run_is_asked_for(tmp_path):
    frame = tuned_run(tmp_path / "all").frame()
    assert (frame["seed"] >= tuning.FRESH).any()
    store = stored(tmp_path / "results")
    best = tuning.trials(optimizers.parse("adam"), "quasi", 4)[2].at.label()
    for path in sorted((tmp_path / "all" / "runs").iterdir()):
        rows = pd.read_parquet(path)
        won = (rows["seed"] >= tuning.FRESH) & (rows["optimizer"] == best)
        rows[~won].to_parquet(store.runs / f"{path.stem[:40]}.parquet")
    with pytest.raises(
        UserError, match=r"adam on quadratic_10 has not run with fresh seeds yet.*--tuning quasi"
    ):
        index(told(store, task=("quadratic_10",), tuning="quasi", trials=4))
    with pytest.raises(UserError, match=r"9 trials \(random\) are not stored"):
        index(told(store, task=("quadratic_10",), tuning="random"))


def test_weight_decays_that_differ_are_told(tmp_path):
    frame = stored(tmp_path, grid(opt="adam"), grid(opt="adamw"), grid(opt="lion")).frame()
    [said] = decays(frame)
    assert "adamw 0.01 and lion 0.001, the others 0" in said
    assert decays(frame[frame["optimizer"] == "lion"]) == []


def test_who_ranks_best_is_one_sentence_with_how_sure_it_is(tmp_path):
    problems = ("quadratic_10", "quadratic_100", "rosenbrock_2")
    grids = [grid(name, opt, level) for name in problems for opt, level in (("adam", 1e-5), ("sgd", 1e-3))]
    page = index(told(stored(tmp_path / "results", *grids)))
    assert (
        "Over the 3 toys adam has the best mean rank of 2, 1 (the same on each); "
        "not significantly better than sgd." in page
    )


def test_a_task_at_two_schedules_is_ranked_under_each(tmp_path):
    schedules, names = (
        (Schedule(), Schedule("cosine")),
        ("quadratic_10", "rosenbrock_2", "mlp", "transformer_8"),
    )
    grids = [
        grid(name, opt, level if schedule == Schedule() else 1e-8 / level, schedule=schedule)
        for name in names for schedule in schedules for opt, level in (("adam", 1e-5), ("sgd", 1e-3))
    ]  # fmt: skip
    content = told(stored(tmp_path / "results", *grids))
    page = index(content)
    assert "Over the 2 constant toys adam has the best mean rank of 2, 1" in page
    assert escape("Over the 2 cosine[warmup=0] toys sgd has the best mean rank of 2, 1") in page
    for axes in content.kinds.values():
        assert {row[0] for row in times(axes["steps"]).rows} == axes["steps"].ranked
    table = Overview(content)
    assert {len(cells) for cells in table.rows.values()} == {len(table.header)}
    assert table.header[-2:] == ["rank on cosine[warmup=0] toys", "cosine[warmup=0] toys solved"]
    assert "one of 2 under constant (adam or sgd)" in opening(content).replace("\n", " ")


def documented(section: str) -> set[str]:
    """The columns that a section of docs/columns.md describes."""
    text = (
        (Path(__file__).parents[1] / "docs/columns.md")
        .read_text()
        .partition(f"## {section}\n")[2]
        .partition("\n## ")[0]
    )
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall("`([^`]+)`", row)}


def test_a_real_run_makes_a_report_whose_every_column_is_documented(tmp_path):
    what = {"suite": "quickstart", "task": ["quadratic_10"], "opt": ["adam", "sgd"], "seeds": 2, "steps": 60}
    result = optbench.run(**what, results=str(tmp_path / "r"))
    content = told(Store(tmp_path / "r"))
    page = index(content)
    assert len(content.stored) == len(result.frame)
    assert "optbench run --suite quickstart --task quadratic_10 --opt adam,sgd --seeds 2 --steps 60" in page
    assert "Fewer than 5 seeds on quadratic_10" in page
    assert all(line == line.rstrip() for line in page.splitlines())

    assert set(pd.read_csv(io.BytesIO(csv(content.summary)))) == documented("table.csv")
    assert set(pd.read_csv(io.BytesIO(csv(content.curves)))) == documented("curves.csv")
    pair = frame_of(compare("", (str(tmp_path / "r"),) * 2, Selection(suite="quickstart")))
    assert set(pd.read_csv(io.BytesIO(csv(pair)))) == documented("table.csv of a comparison")
    fields = {re.sub(r"^(task|optimizer|evaluation|version)\..*", r"\1.*", name) for name in result.frame}
    assert fields <= documented("Rows of results")


def test_own_optimizers_whose_code_is_not_here_are_named(tmp_path):
    ran = {
        "mine:make[b=1]": 2000,
        "mine:other": 2001,
        "mine:tuned": 3,
        "adam[b1=0.5]": 2000,
        "here.py:F": 2000,
    }
    frame = pd.DataFrame({"task": "mlp", "optimizer": list(ran), "seed": list(ran.values())})
    rows = frame[frame["optimizer"] == "here.py:F"]
    assert Selection().left_out(frame, rows) == ("mine:make", "mine:other")
    content = dataclasses.replace(told(stored(tmp_path, grid())), left_out=("mine:make",))
    assert any("mine:make" in each and "--again" in each for each in content.caveats)
