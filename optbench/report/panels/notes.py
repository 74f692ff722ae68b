"""How to read a report, what it was computed with, and how to reproduce it."""

from __future__ import annotations

from optbench.report.content import Content
from optbench.report.parts import Code, Details, Part, Terms, Text
from optbench.stats.curves import INTERVAL_FROM, interval_label

HOW_TO_READ = {
    "Targets": "values of a metric that a task declares, from the easiest to the hardest. First target: a learning "
    "rate works if its median seed reaches it. Main target: the second, or the only one; it counts as solved, and "
    "tables and profiles count steps and times to it. Final target: the last one. Where a task ends lanes there, "
    "final losses no longer compare, and the verdict counts the steps to it.",
    "Real tasks and toys": "a toy is a function that shows how a method behaves (conditioning, curvature), not how it "
    "will rank on a network. Toys are ranked apart.",
    "Median and interval": "over seeds. The interval is of exact order statistics "
    f"({interval_label(range(5, 11))} at 5 to 10 seeds), or min-max with fewer than {INTERVAL_FROM} seeds.",
    "Leads alone": "the best median, and better than each other optimizer in a t test paired by seed (p < 0.05). Not "
    "distinguishable: this test is not significant, which does not mean that the methods are equal.",
    "Curves": "the median over seeds at the optimizer's best learning rate, with its interval as a band. A lane that "
    "diverged or failed counts as infinite from there on, and a cross at the top edge marks where it ended. A curve "
    "ends where the median reached the final target. Dashed grey lines are targets. Seconds are steps times the "
    "measured time of one step of one lane, without compilation and evaluation; gradient equivalents are steps times "
    "the gradients that one step takes.",
    "Final value by learning rate": "one point for each learning rate of the grid, a bar for the interval, a ring "
    "around the best. A cross in the grey strip: lanes diverged or failed there; a small cross: fewer than half. An "
    "open triangle: the value is off the scale. Points are moved slightly sideways so that bars do not hide each "
    "other. For random and quasi-random trials, other hyperparameters vary along the line too.",
    "best lr": "the learning rate with the lowest median of the selection metric, or with the fewest steps to the "
    "final target; *: it is at the edge of the grid; in brackets: the range of those that are not significantly worse.",
    "test": "the reported metric: an error in percent, or a loss; a dash where it is the loss beside it.",
    "steps, to final": "steps to the main and to the final target, of the median seed; -: not reached, or no lane ends "
    "at the final target.",
    "decades": "the width of the working learning-rate range: the longest run of learning rates that work; ≥: it "
    "reaches the edge of the grid; -: none works.",
    "us/step": "microseconds of one step of one lane, without compilation and evaluation.",
    "state/param": "numbers of optimizer state per parameter.",
    "diverged": "lanes that diverged, of all; +n!: lanes that failed.",
    "grads/step": "gradient equivalents per step, where a Hessian-vector product counts 2.",
}  # fmt: skip
"""Each term is defined here and nowhere else on the page."""


def how_to_read(content: Content) -> list[Part]:
    return [Terms(HOW_TO_READ)]


def environment(content: Content) -> list[Part]:
    return [Terms(content.environment, "pairs")]


def reproduce(content: Content) -> list[Part]:
    rows = content.summary[["problem", "optimizer", "command"]].itertuples(index=False, name=None)
    lines = [f"# {' '.join(f'{problem}, {name}'.split())}\n{command}" for problem, name, command in rows]
    commits = sorted(content.newest["commit"].dropna().unique())
    code = [f"git checkout {commits[0]}"] if len(commits) == 1 else []
    machine = " and ".join(map(str, content.newest["cpu_model"].dropna().unique()))
    about = "These commands reproduce every row and write this report; stored results are not recomputed." + (
        f" The same processor ({machine}) and the same versions (see Environment) give the same bits. Another "
        "processor, with the same versions too, rounds differently and gives other numbers: a best learning rate can "
        "move to its neighbour, and a close lead become a tie."
    ) * bool(machine)  # what was imported has none
    data = any("--data DIR" in line for line in content.commands)
    return [
        Text(about),
        *[Text("DIR is the folder with your copy of the data.")] * data,
        Code([*code, *content.commands]),
        Details("The command behind each row of the tables", [Code(lines)]),
    ]
