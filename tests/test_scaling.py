"""Laws over steps, batches and widths: exact on exact data, intervals that cover, and a panel from stored rows."""

import numpy as np
import pandas as pd
import pytest

from optbench import tasks
from optbench.report.figures import render, style
from optbench.report.panels.scaling import over_batches
from optbench.report.panels.scaling import scaling as panel
from optbench.report.parts import to_markdown
from optbench.stats import scaling
from tests.coverage import STEPS, critical, on_a_law
from tests.test_report import grid, stored, told


def test_an_exact_law_is_found_exactly():
    y, speedups = on_a_law(np.random.default_rng(3), 1e-9)
    found = scaling.law(y, STEPS)
    np.testing.assert_allclose([each.value for each in found.speedups], speedups, rtol=1e-5)
    np.testing.assert_allclose([each.value for each in found.trends], 1, rtol=1e-5)
    np.testing.assert_allclose(found.at(STEPS, 2.0), found.c + found.a * (2 * STEPS) ** -found.b)
    bent = y.copy()
    bent[1] = found.at(STEPS, 1.0 * (STEPS / 500) ** 0.5)[:, None]  # an advantage that grows
    assert scaling.law(bent, STEPS).trends[1].low > 1.3


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_intervals_of_speedups_cover(count):
    """95 % within what a binomial of these many laws allows (93 to 97 % of 2,000)."""
    rng = np.random.default_rng(0)
    inside = trends = 0
    for _ in range(count):
        y, speedups = on_a_law(rng, spread=rng.choice([0.003, 0.01, 0.03]))
        found = scaling.law(y, STEPS)
        inside += sum(e.low <= s <= e.high for e, s in zip(found.speedups[1:], speedups[1:], strict=True))
        trends += sum(each.low <= 1 <= each.high for each in found.trends[1:])
    slack = 0.02 if count == 2000 else 0.06
    assert abs(inside / count / 3 - 0.95) <= slack
    assert abs(trends / count / 3 - 0.95) <= slack


def test_intervals_of_critical_batches_cover():
    rng = np.random.default_rng(0)
    assert abs(np.mean([critical(rng, 0.05) for _ in range(200)]) - 0.95) <= 0.04


def test_gradient_descent_on_a_power_law_has_the_exponent_of_the_theory():
    """f falls as t^-((q - 1)/p): the known answer, and a second one that is three times as fast."""
    task = tasks.parse("power_law[p=2,q=2.5,rotation=none]")
    eigenvalues, x = np.diag(task.data()["A"]), task.init(0)["x"]
    steps = np.array([60.0, 120, 240, 480])
    y = np.array([
        [np.full(2, (eigenvalues * (x * (1 - rate * eigenvalues) ** t) ** 2).sum() / 2) for t in steps]
        for rate in (1 / 3, 1.0)
    ])  # fmt: skip
    found = scaling.law(y, steps)
    assert found.b == pytest.approx(0.75, abs=0.03)
    assert found.speedups[1].value == pytest.approx(3, rel=0.03)
    assert np.isclose((eigenvalues * x**2).sum() / 2, 1)


def test_order_changes_and_their_probability():
    rows = pd.DataFrame(
        [
            {"optimizer": name, "place": place, "seed": seed, "score": value * (1 + 0.01 * seed)}
            for name, values in {"a": (1.0, 1.0, 1.0), "b": (2.0, 1.5, 0.5)}.items()
            for place, value in zip((1.0, 2.0, 4.0), values, strict=True)
            for seed in range(4)
        ]
    )
    (change,) = scaling.changes(scaling.Axis("steps", "t", rows), "score")
    assert (change.ahead, change.other, change.places) == ("a", "b", (2.0, 4.0))
    assert change.chance > 0.99


def test_a_target_that_nobody_reached_everywhere_is_said():
    rows = [
        {"optimizer": name, "place": place, "seed": seed, "time": np.inf if place == 8 else 5.0}
        for name in ("a", "b")
        for place in (4, 8)
        for seed in range(3)
    ]
    (text,) = over_batches(scaling.Axis("batch", "t", pd.DataFrame(rows)))
    assert to_markdown(text) == "No optimizer reached the main target in every run of every batch size."


def test_a_stored_run_over_steps_and_batches_has_the_panel(tmp_path):
    """Over steps with the law, over batches with the critical one; rows of one number of steps have no panel."""
    runs = [("mlp", steps) for steps in (40, 80, 160)] + [
        (f"mlp[batch={batch}]", 40) for batch in (8, 16, 32)
    ]
    store = stored(tmp_path, *[
        grid(task, opt, level=level * (steps / 40) ** -0.5, seeds=3, steps=steps)
        for task, steps in runs
        for opt, level in (("adam", 1e-3), ("sgd", 2e-3))
    ])  # fmt: skip
    content = told(store, task=[task for task, _ in runs[2:]])
    page = to_markdown(*panel(content))
    assert "### mlp: steps" in page
    assert "### mlp: batch" in page
    assert "| optimizer | critical | least steps |" in page
    (row,) = (line for line in page.splitlines() if line.startswith("| sgd | 0.2"))
    assert "cannot be told" in row or "grows" in row or "shrinks" in row
    with style():
        assert render(panel(content)[2].draw())["png"]
    alone = stored(tmp_path / "alone", grid("mlp", "adam", seeds=3), grid("mlp", "sgd", seeds=3))
    assert not panel(told(alone))


def test_axes_of_one_task_are_told_apart_by_what_differs():
    given = [
        {"name": "a", "mup": 0, "batch": 8},
        {"name": "a", "mup": 12, "batch": 8},
        {"name": "b", "mup": 0},
    ]
    assert scaling.told_apart(given) == ["a[mup=0]", "a[mup=12]", "b"]
