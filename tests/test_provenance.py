"""Rows of another origin are marked in every table, and runs that show a fault are named."""

import numpy as np
import pytest

from optbench.report.compare import compare
from optbench.report.content import Content
from optbench.report.selection import Selection
from optbench.stats.provenance import faults
from optbench.stats.summary import as_text, legend, summarise
from tests.test_report import FACTS, grid, index, stored

SHOWN = Selection(suite="quickstart", task=("quadratic_10",))


@pytest.mark.parametrize(("column", "words"), [("cpu_model", "processor X"), ("version.jax", "jax X")])
def test_rows_of_another_origin_are_marked_in_every_table(tmp_path, column, words):
    store = stored(tmp_path / "mine", *(grid(opt=name) for name in ("adam", "kron")))
    store.write(grid(opt="sgd"), FACTS | {column: "X", "version.torch": "of no effect in jax"})
    frame = store.frame()
    table = summarise(frame)
    assert dict(zip(table["optimizer"], table["apart"], strict=True)) == {
        "adam": "",
        "kron": "",
        "sgd": words,
    }
    assert "sgd†" in as_text(table, 200)
    assert f"sgd on quadratic_10: {words}" in " ".join(legend(table, 200).split())
    content = Content.of(SHOWN, store)
    page = index(content)
    assert "| sgd† |" in page
    assert f"Rows differ in {words.split()[0]}: " in page


def test_a_comparison_of_two_processors_says_so(tmp_path):
    sides = [stored(tmp_path / name, grid(), cpu_model=name) for name in ("one", "two")]
    names = (str(sides[0].folder), str(sides[1].folder))
    alike = compare(names[0], (names[0], names[0]), SHOWN)
    assert alike.notes == []
    assert "processor: one (20 cells) and two (20 cells)" in compare(names[0], names, SHOWN).notes[0]


def test_runs_that_show_a_fault_are_named(tmp_path):
    still, endless, deaf = (grid(opt=name) for name in ("adam", "sgd", "kron"))
    for trace in still:
        trace.losses = np.ones_like(trace.losses)
        trace.evaluations["loss"] = np.ones_like(trace.evaluations["loss"])
    endless[0].losses[0] = np.inf
    for trace in deaf:
        trace.losses, trace.evaluations = deaf[trace.cell.seed].losses, deaf[trace.cell.seed].evaluations
    store = stored(tmp_path, still, endless, deaf, grid(opt="novograd"))
    assert faults(store.frame()) == [
        "adam on quadratic_10: nothing moves in 20 of 20 lanes, at any step.",
        "sgd on quadratic_10: the first loss is not finite in 1 of 20 lanes.",
        "kron on quadratic_10: every learning rate gives the same losses.",
    ]
