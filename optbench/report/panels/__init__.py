"""The panels of a report, in order. To add one: a file here and a line in `PANELS`."""

from __future__ import annotations

from optbench.report.panels import claims, cost, curves, notes, optimizers, paths, scaling, standings, verdict
from optbench.report.parts import Panel

PANELS: dict[str, Panel] = {
    "Verdict": verdict.verdict,
    "Optimizers": optimizers.optimizers,
    "Tasks": verdict.tasks,
    "Curves": curves.curves,
    "Learning rates": curves.learning_rates,
    "Tuning": curves.tuning,
    "Profiles": standings.profiles,
    "Ranks": standings.ranks,
    "Scaling": scaling.scaling,
    "Paths": paths.paths,
    "Cost": cost.cost,
    "Failures": cost.failures,
    "Claims": claims.claims,
    "Lint": verdict.lint,
    "Table": verdict.table,
    "How to read": notes.how_to_read,
    "Environment": notes.environment,
    "Reproduce": notes.reproduce,
}
"""By title: what each shows of a report, nothing where it does not apply."""
