"""What `optbench run` prints, beside the golden messages."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from optbench import optimizers, tasks
from optbench.cell import Cell
from optbench.stats.summary import HEADER, as_text, legend, summarise
from optbench.tuning import FRESH
from optbench.wording import shortened_apart
from tests.test_report import grid, stored, trace


def test_the_legend_names_tasks_whole_and_each_target_once():
    """Underscores of names were taken for blanks: `transformer[d model=128]`; and a target stood there once a task."""
    table = pd.DataFrame(
        {
            "task": ["mlp", "mlp", "mlp[width=512]", "xor_rnn_32"],
            "target": ["validation_error 0.05"] * 3 + ["validation_error 0.1"],
            "seeds": 1,
        }
    ).assign(
        optimizer="adam",
        apart="",
        metric="test_error",
        trial=0.1,
        diverged=0,
        lanes=1,
        failed=0,
        trial_at_edge=False,
    )
    for name in ("score", "score_low", "score_high", "loss", "loss_low", "loss_high", "steps_to_target"):
        table[name] = 0.1
    table[["decades", "microseconds", "state"]] = np.nan
    table[["schedule", "framework", "dtype", "precision", "steps", "device_kind"]] = "one"
    lines = legend(table, 100).splitlines()
    assert (
        "steps: to the target (mlp, mlp[width=512]: validation error 0.05; xor_rnn_32: validation error 0.1)."
        in (" ".join(lines))
    )
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_table_and_its_legend_fit_the_terminal(tmp_path, width):
    """Labels are cut in their brackets first, then the least needed columns go."""
    long = "sgd[momentum=0.9,nesterov=True]"
    table = summarise(
        stored(tmp_path, grid(opt=long), grid("quadratic[dim=7]", "adam"), grid("mlp", long)).frame()
    )
    text, meaning = as_text(table, width), legend(table, width)
    assert max(map(len, [*text.splitlines(), *meaning.splitlines()])) <= width
    head = text.splitlines()[0]
    assert ("st/p" in head) == ("st/p:" in meaning)
    if width == 160:
        assert all(name in head for name in HEADER)
        assert long in text
    if width == 80:
        assert "sgd[mom" in text
        assert "final loss" in head


def test_at_80_columns_names_stay_whole_and_what_is_reported_keeps_its_interval(tmp_path):
    """`quadratic_..` may be any of three, and a table without learning rates or steps says half."""
    runs = [
        grid(task, opt) for task in ("quadratic_100", "rosenbrock_100", "mlp") for opt in ("adam", "novograd")
    ]
    table = summarise(stored(tmp_path, *runs).frame())
    text, meaning = as_text(table, 80), legend(table, 80)
    assert all(name in text for name in ("quadratic_100", "rosenbrock_100", "novograd"))
    assert all(name in text.splitlines()[0] for name in ("best lr", "final loss", "reported", "steps"))
    assert all("[" in line for line in text.splitlines()[1:])
    assert "best lr: chosen" in meaning
    assert "reported: on test data" in meaning
    assert max(map(len, text.splitlines())) <= 80


def test_the_first_sentence_of_a_report_is_said_of_rows(tmp_path):
    from optbench.stats.verdict import verdict
    from tests.test_report import told

    store = stored(tmp_path, grid(opt="adam", level=1e-5), grid(opt="sgd", level=1e-3))
    assert verdict(store.frame()) == told(store).headline == "On 1 toy: adam leads alone on 1 (quadratic_10)."


def test_a_program_of_one_lane_has_one_lane():
    from optbench import optimizers, tasks
    from optbench.cell import Cell
    from optbench.live import title
    from optbench.plan import Program

    cell = Cell(tasks.parse("mlp"), optimizers.parse("adam"), steps=10)
    assert title(Program((cell,), "map")) == "mlp / adam, 1 lane"
    assert title(Program((cell, cell), "map")) == "mlp / adam, 2 lanes"


def test_a_line_of_a_program_chooses_as_the_table_does(tmp_path):
    """Where a final target ends lanes, the fewest steps win and not the least loss past the target."""
    from optbench.execute.order import Order
    from optbench.execute.request import Request
    from optbench.execute.session import Session
    from optbench.live import row

    request = Request(
        task=("rosenbrock_2",), opt=("adam",), seeds=5, steps=2000, results=str(tmp_path), jobs=1
    )
    session = Session(Order.of(request))
    lines = [row(session, event) for event in session.run() if event.kind == "done"]
    [shown] = summarise(session.frame()).to_dict("records")
    assert len(lines) == 1
    assert f"at lr {shown['trial']:.3g}" in lines[0]


def test_the_line_of_a_first_stage_does_not_count_fresh_seeds(tmp_path):
    """They report the default, here on the grid, and do not choose."""
    from optbench.live import row

    levels = [(0.01, seed, 0.2) for seed in (0, 1)] + [(0.1, seed, 0.3) for seed in (0, 1)]
    levels += [(0.1, FRESH + seed, 1e-9) for seed in (0, 1, 2)]
    cells = [
        Cell(tasks.parse("mlp"), optimizers.parse("adam").replace(learning_rate=rate), seed=seed)
        for rate, seed, _ in levels
    ]
    store = stored(tmp_path, [trace(cell, level) for cell, (*_, level) in zip(cells, levels, strict=True)])
    [path] = store.runs.iterdir()
    session = SimpleNamespace(store=store, order=SimpleNamespace(device=SimpleNamespace(platform="cpu")))
    program = SimpleNamespace(cells=cells, optimizer="adam")
    line = row(session, SimpleNamespace(kind="done", program=program, facts={"path": path}))
    assert "at lr 0.01" in line


def test_labels_that_are_cut_alike_begin_with_what_differs():
    wide = "net[width=32,layers=1]", "net[width=32,layers=2]"
    assert shortened_apart([*wide, "adam", "zipf[a=1]"], 17) == {
        wide[0]: "net[layers=1,w..]", wide[1]: "net[layers=2,w..]", "adam": "adam", "zipf[a=1]": "zipf[a=1]",
    }  # fmt: skip
    assert shortened_apart(wide, 22) == {each: each for each in wide}
    schedules = "net (cosine[warmup=0])", "net (cosine[warmup=0.1])"
    assert list(shortened_apart(schedules, 14).values()) == ["net (c..up=0])", "net (c..=0.1])"]
    tuned = "kron[b1=0.8,max_size_triangular=100]"
    assert shortened_apart([tuned, f"{tuned} (untuned)"], 25) == {
        tuned: "kron[b1=0.8,max_size_t..]", f"{tuned} (untuned)": "kron[b1=0.8,..] (untuned)",
    }  # fmt: skip
