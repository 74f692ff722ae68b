"""The panels of a report, in order. To add one: a file here and a line in `PANELS`."""

from __future__ import annotations

from optbench.report.panels import claims, cost, curves, notes, optimizers, paths, scaling, standings, verdict
from optbench.report.parts import Panel

PANELS = [
    Panel("Verdict", verdict.verdict),
    Panel("Optimizers", optimizers.optimizers),
    Panel("Tasks", verdict.tasks),
    Panel("Curves", curves.curves),
    Panel("Learning rates", curves.learning_rates),
    Panel("Tuning", curves.tuning),
    Panel("Profiles", standings.profiles),
    Panel("Ranks", standings.ranks),
    Panel("Scaling", scaling.scaling),
    Panel("Paths", paths.paths),
    Panel("Cost", cost.cost),
    Panel("Failures", cost.failures),
    Panel("Claims", claims.claims),
    Panel("Lint", verdict.lint),
    Panel("Table", verdict.table),
    Panel("How to read", notes.how_to_read),
    Panel("Environment", notes.environment),
    Panel("Reproduce", notes.reproduce),
]
