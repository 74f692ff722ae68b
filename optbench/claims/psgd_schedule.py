"""psgd-jax: what the README and the docstrings say about when kron updates its preconditioner, and what that costs."""

from __future__ import annotations

from optbench.claims import Lookup, Measurement, Numbers, Ruling, claim, graded
from optbench.claims.plots import Figure, Mark, Panel, Series

SCHEDULE = Measurement(
    call="psgd_schedule:update_steps", cost=4,
    inputs={"steps": 6000, "constants": [0.9, 0.7, 0.5, 0.4, 0.25, 0.1], "marks": [500, 1000, 2000, 4000, 6000],
            "window": 100},
)  # fmt: skip
COST = Measurement(
    call="psgd_schedule:update_cost", cost=5, inputs={"problem": "mlp", "steps": 40, "rounds": 15}
)

LEAST = 0.03
DOCUMENTED_END, DOCUMENTED_FLAT = 4000, 250


@claim("anneal to 0.03 ... speed up by around 4k steps", "0.03 by about step 4,000", SCHEDULE)
def schedule_end(m: Numbers) -> Ruling:
    """By default the update probability falls from 1 to 0.03 by about step 4,000."""
    at, least = m["least_at"], m["least"]
    return Ruling(
        graded(abs(least - LEAST) < 1e-6 and abs(at - DOCUMENTED_END) <= 0.02 * DOCUMENTED_END),
        f"{least:.2g} at step {at:,}",
        f"The default schedule is 1 until step {m['flat_until']:,} and reaches its minimum at step {at:,}.",
    )


@claim("update probability at 1.0 for 250 steps", "1 for 250 steps", SCHEDULE)
def schedule_flat(m: Numbers) -> Ruling:
    """The update probability stays at 1 for 250 steps, the docstring of the schedule says."""
    return Ruling(
        graded(m["flat_until"] == DOCUMENTED_FLAT),
        f"1 for {m['flat_until']:,} steps",
        f"The default of flat_start is {m['flat_until']:,}: the docstring is older than the code.",
    )


@claim("preconditioner update probability", "a probability: 0.7 is 7 fits in 10", SCHEDULE)
def update_probability(m: Numbers) -> Ruling:
    """The preconditioner is updated with the probability that is given."""
    real, promised, drawn = (m[key]["1000"] - m[key]["500"] for key in ("fits", "promised", "drawn"))
    every = {float(p): steps for p, steps in m["every"].items()}
    whole = {p: steps for p, steps in every.items() if abs(1 / p - round(1 / p)) < 1e-9}
    exact = all(abs(p * steps - 1) < 1e-9 for p, steps in every.items())
    slow = ", ".join(f"{p:g}" for p, steps in every.items() if steps == 2)
    return Ruling(
        graded(exact, all(abs(p * steps - 1) < 1e-9 for p, steps in whole.items())),
        f"{real} fits in steps 501-1,000",
        f"A counter fits every ceil(1/p) steps, exact only where 1/p is whole: {slow} all mean every 2nd "
        f"step, and steps 501 to 1,000 get {real} fits where p adds up to {promised:.0f} (0.2.7 drew: "
        f"{drawn}).",
    )


@claim("slightly slower at the start", "slightly slower, faster by 4k steps", COST)
def slow_start(m: Numbers) -> Ruling:
    """Training is slightly slower at the start and speeds up by about step 4,000."""
    spent = m["microseconds"]
    late = spent["applied"] + LEAST * (spent["fitted"] - spent["applied"])
    ratio, plain = spent["fitted"] / late, late / spent["gradient"]
    return Ruling(
        graded(1 < ratio <= 1.25, ratio > 1.25),
        f"{ratio:.1f} times the late step",
        f"On the digits network a step that fits takes {ratio:.1f} times the CPU of the average step "
        f"after 4,000, which takes {plain:.1f} times a gradient: the start is more than slightly slower (the "
        "dearer the gradient, the less)."
        if ratio > 1.25
        else f"A step that fits takes {ratio:.2f} times the CPU of the average step after 4,000.",
    )


def schedule_figure(numbers: Lookup) -> Figure | None:
    """The README's plot of the default schedule, with the rate at which kron really fits, and what steps cost."""
    schedule, cost = numbers(SCHEDULE), numbers(COST)
    if schedule is None or cost is None:
        return None
    curve, spent = schedule["curve"], cost["microseconds"]
    relative = [
        (spent["applied"] + rate * (spent["fitted"] - spent["applied"])) / spent["gradient"]
        for rate in curve["rate"]
    ]
    ends = (
        Mark(text=f"docstring: {DOCUMENTED_FLAT}", x=DOCUMENTED_FLAT),
        Mark(text=f"0.03 at {schedule['least_at']:,}", x=schedule["least_at"]),
    )
    rates = (
        Series(label="update probability", x=curve["step"], y=curve["probability"]),
        Series(label="fits a step, really", x=curve["step"], y=curve["rate"]),
    )
    return Figure(
        name="kron-schedule",
        caption="kron's default schedule as the README plots it, and the rate at which a counter that fits every "
        "ceil(1/p) steps really fits (left); what a training step costs in gradients of the digits network (right).",
        panels=(
            Panel(title="Default schedule", x="step", y="fits a step", series=rates, marks=ends, limits=(0.0, 1.12)),
            Panel(
                title="CPU of a step", x="step", y="gradients",
                series=(Series(label="with kron", x=curve["step"], y=relative, optimizer="kron"),),
                marks=(Mark(text="gradient alone", y=1.0),),
                limits=(0.0, 1.08 * max(relative)),
            ),
        ),
    )  # fmt: skip
