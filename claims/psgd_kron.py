"""psgd-jax: what the README and the docstrings of kron.py say about kron."""

import math
from statistics import geometric_mean
from typing import Any

from optbench.claim import Document, Measurement, Numbers, Ruling, graded
from optbench.claim.plots import Figure, Mark, Panel, Series
from optbench.execute.request import Request

document = Document(
    name="psgd-kron",
    title="psgd-jax 0.2.9: README and docstrings, kron",
    source="https://github.com/evanatyourservice/psgd_jax (be95524)",
    optimizers=("kron",),
)
claim = document.claim
LAYER, BIAS, SQUARE, TALL, KERNEL = "(256, 128)", "(256,)", "(64, 64)", "(9000, 16)", "(3, 3, 8, 16)"
SHAPES = {LAYER: [256, 128], BIAS: [256], SQUARE: [64, 64], TALL: [9000, 16], KERNEL: [3, 3, 8, 16]}
LARGEST = 8192
"""The default of max_size_triangular."""
LEAST = 0.03
DOCUMENTED_END, DOCUMENTED_FLAT = 4000, 250

SCHEDULE = Measurement.of(
    "psgd_schedule:update_steps", cost=4, steps=6000, constants=[0.9, 0.7, 0.5, 0.4, 0.25, 0.1],
    marks=[500, 1000, 2000, 4000, 6000], window=100,
)  # fmt: skip
COST = Measurement.of("psgd_schedule:update_cost", cost=5, problem="mlp", steps=40, rounds=15)
FACTORS = Measurement.of("state:factor_shapes", shapes=SHAPES, modes=[None, "one_diag", "all_diag"])
ARGUMENTS = Measurement.of("state:arguments")
MOVED = Measurement.of(
    "training:hyperparameters", cost=30,
    problem="mlp[width=64]", steps=100, seeds=3, rates=[0.001, 0.003, 0.01],
    moved={
        "kron": {"b1": [0.0, 0.99], "preconditioner_lr": [0.01, 1.0], "preconditioner_init_scale": [0.1, 10.0],
                 "preconditioner_update_probability": [0.1]},
        "adam": {"b1": [0.0, 0.99], "b2": [0.99, 0.9999], "eps": [1e-9, 1e-7]},
    },
)  # fmt: skip
STUDY = Measurement.of("studies:study", Request(task=("mlp",), opt=("adam", "kron"), seeds=3))
FITS = Measurement.of("psgd_fit:matrix_fits", cost=6, shape=[4, 3], steps=3000, rates=[0.1, 0.01], seed=0)
CONTRACTION = Measurement.of("psgd_fit:contraction", shape=[6, 4], seed=0)


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
    exact = {p: abs(p * steps - 1) < 1e-9 for p, steps in every.items()}
    slow = ", ".join(f"{p:g}" for p, steps in every.items() if steps == 2)
    return Ruling(
        graded(all(exact.values()), all(exact[p] for p in every if abs(1 / p - round(1 / p)) < 1e-9)),
        f"{real} fits in steps 501-1,000",
        f"A counter fits every ceil(1/p) steps, exact only where 1/p is whole: {slow} all mean every 2nd step, "
        f"and steps 501 to 1,000 get {real} fits where p adds up to {promised:.0f} (0.2.7 drew: {drawn}).",
    )


@claim("slightly slower at the start", "slightly slower, faster by 4k steps", COST)
def slow_start(m: Numbers) -> Ruling:
    """Training is slightly slower at the start and speeds up by about step 4,000."""
    spent = m["microseconds"]
    late = averaged(spent, LEAST)
    ratio, plain = spent["fitted"] / late, late / spent["gradient"]
    return Ruling(
        graded(1 < ratio <= 1.25, ratio > 1.25),
        f"{ratio:.1f} times the late step",
        f"On the digits network a step that fits takes {ratio:.1f} times the CPU of the average step after 4,000, "
        f"which takes {plain:.1f} times a gradient: the start is more than slightly slower (the dearer the "
        "gradient, the less)."
        if ratio > 1.25
        else f"A step that fits takes {ratio:.2f} times the CPU of the average step after 4,000.",
    )


def averaged(spent: dict[str, float], rate: float) -> float:
    """What a step costs when so many fit."""
    return spent["applied"] + rate * (spent["fitted"] - spent["applied"])


@document.show(SCHEDULE, COST)
def schedule_figure(schedule: Any, cost: Any) -> Figure:
    """The README's plot of the default schedule, with the rate at which kron really fits, and what steps cost."""
    curve, spent = schedule["curve"], cost["microseconds"]
    relative = [averaged(spent, rate) / spent["gradient"] for rate in curve["rate"]]
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


@claim(
    "would be shapes (256, 256) and (128, 128)", "(256, 256), (128, 128); diagonal (256,), (128,)", FACTORS
)
def factor_shapes(m: Numbers) -> Ruling:
    """A layer (256, 128) has factors (256, 256) and (128, 128), or (256,) and (128,) if diagonal."""
    triangular, diagonal = m["None"][LAYER], m["all_diag"][LAYER]
    return Ruling(
        graded(triangular == [[256, 256], [128, 128]] and diagonal == [[256], [128]]),
        "; ".join(", ".join(str(tuple(shape)) for shape in shapes) for shapes in (triangular, diagonal)),
        "These are the shapes in the first state, by default and with memory_save_mode='all_diag'.",
    )


@claim("triangular except for 1-dimensional layers and very large", "all but vectors and large dims", FACTORS)
def mostly_triangular(m: Numbers) -> Ruling:
    """By default factors are triangular except for 1-dimensional layers and very large dimensions."""
    found = {(leaf, i): len(f) == 2 for leaf, factors in m["None"].items() for i, f in enumerate(factors)}
    wrong = [
        f"axis {i} of {leaf}"
        for (leaf, i), dense in found.items()
        if dense != (len(SHAPES[leaf]) > 1 and SHAPES[leaf][i] <= LARGEST)
    ]
    return Ruling(
        graded(not wrong),
        f"{sum(found.values())} of {len(found)} factors triangular",
        f"Of five leaves the vector {BIAS} and the axis of 9,000 are diagonal, every other axis is triangular."
        if not wrong
        else f"It is otherwise for {', '.join(wrong)}.",
    )


@claim("sets the largest or last dim per layer as diagonal", "the largest axis, the last of equals", FACTORS)
def one_diag(m: Numbers) -> Ruling:
    """memory_save_mode='one_diag' makes the largest dimension diagonal, the last one on ties."""
    wide = {leaf: shape for leaf, shape in SHAPES.items() if len(shape) > 1}
    found = {leaf: [i for i, factor in enumerate(m["one_diag"][leaf]) if len(factor) == 1] for leaf in wide}
    good = all(found[leaf] == [max((n, i) for i, n in enumerate(s))[1]] for leaf, s in wide.items())
    return Ruling(
        graded(good),
        ", ".join(f"axis {str(found[leaf]).strip('[]') or '-'} of {leaf}" for leaf in (LAYER, SQUARE)),
        f"So it is on {len(wide)} leaves of 2 to 4 dimensions." if good else f"Diagonal axes are {found}.",
    )


@claim("There is no b2 or epsilon", "no b2, no epsilon", ARGUMENTS)
def no_b2_or_epsilon(m: Numbers) -> Ruling:
    """kron has no b2 and no epsilon to tune."""
    present = [name for name in m["kron"] if name in ("b2", "beta2") or name.startswith("eps")]
    return Ruling(
        graded(not present),
        ", ".join(present) or "neither",
        f"None of the {len(m['kron'])} arguments is one of them; what damps the fit is fixed in the code."
        if not present
        else f"kron takes {', '.join(present)}.",
    )


@claim("less hyperparameters that need tuning than adam", "fewer than Adam", MOVED)
def fewer_hyperparameters(m: Numbers) -> Ruling:
    """kron has fewer hyperparameters that need tuning than Adam."""
    needy = {name: sorted(needing(cases)) for name, cases in m.items()}
    kron, adam = len(needy["kron"]), len(needy["adam"])
    words = {name: ", ".join(found) or "none" for name, found in needy.items()}
    return Ruling(
        graded(kron < adam, kron == adam),
        f"kron {kron}, Adam {adam}",
        "Beside the learning rate, tuned again each time, moving these by about a factor of ten (b1 and b2: of "
        "the horizon) costs more than the seeds differ on a digits network of half the width: "
        f"kron {words['kron']}; Adam {words['adam']}.",
    )


def needing(cases: dict[str, list[float]]) -> set[str]:
    """The hyperparameters of which some move is worse with every seed than the default with any."""
    worst = max(cases["default"])
    return {name.partition("=")[0] for name, values in cases.items() if min(values) > worst}


@claim("slightly lower learning rate (like /2)", "about half of Adam's", STUDY)
def learning_rate(m: Numbers) -> Ruling:
    """kron's learning rate is like Adam's, or about half of it."""
    kron, adam = (good_rates(m["runs"][0]["mlp"][name]) for name in ("kron", "adam"))
    ratio = geometric_mean(kron) / geometric_mean(adam)
    ranges = [" to ".join(f"{r:.2g}" for r in sorted({min(rates), max(rates)})) for rates in (kron, adam)]
    return Ruling(
        graded(0.25 <= ratio <= 1.1, 0.08 <= ratio <= 4),
        f"{ratio:.2g} of Adam's",
        f"On the digits network the rates (of nine) that seeds cannot tell from the best are {ranges[0]} "
        f"for kron and {ranges[1]} for Adam; the ratio is that of their geometric means.",
    )


def good_rates(row: dict[str, Any]) -> list[float]:
    """The learning rates whose final loss overlaps that of the best."""
    best = next(at for at in row["rates"] if at["rate"] == row["best_rate"])
    return [at["rate"] for at in row["rates"] if at["final"][1] <= best["final"][2]]


@claim("can generally act as a drop-in replacement", "works where Adam does", STUDY)
def drop_in(m: Numbers) -> Ruling:
    """kron can replace Adam without further tuning, at Adam's learning rate or a slightly lower one."""
    kron, adam = (m["runs"][0]["mlp"][name] for name in ("kron", "adam"))
    i = [row["rate"] for row in adam["rates"]].index(adam["best_rate"])
    own, tried = adam["rates"][i], [kron["rates"][i], kron["rates"][max(0, i - 1)]]
    works = [math.isfinite(row["steps"]) for row in tried]
    good = [row["final"][1] <= own["final"][2] for row in tried]
    losses = [f"{row['final'][0]:.2g}" for row in (*tried, own)]
    counts = [row["steps"] for row in (*tried, own)]
    steps = [f"{count:.0f}" if math.isfinite(count) else "no number of" for count in counts]
    return Ruling(
        graded(all(works) and all(good), any(works)),
        f"loss {losses[0]} and {losses[1]}, Adam {losses[2]}",
        f"At Adam's best learning rate ({own['rate']:.2g}) and at the next lower one ({tried[1]['rate']:.2g}) "
        f"kron reaches the first target in {steps[0]} and {steps[1]} steps, Adam in {steps[2]}; its final "
        f"validation loss is {AS_GOOD[sum(good)]}. One small network.",
    )


AS_GOOD = ("worse than Adam's at both", "as good as Adam's at one of them", "as good as Adam's")
"""By at how many of the two learning rates it is."""


@claim("first axis ... is the contracting axis", "the first axis", CONTRACTION)
def contracting_axis(m: Numbers) -> Ruling:
    """When the preconditioner is applied, the first axis of each factor is contracted."""
    return Ruling(
        graded(m["first"] < 1e-12 < m["last"]),
        "the first axis" if m["first"] < m["last"] else "the last axis",
        f"P G equals the product that contracts first axes to {m['first']:.1g}, and is {m['last']:.1f} "
        "away from the other: P = Q^T Q. (Q itself is applied along its last axis.)",
    )


@claim("whitening-based (gg^T) preconditioner", "makes gradients white", FITS)
def whitening(m: Numbers) -> Ruling:
    """The preconditioner whitens the gradient."""
    worst = m["whiteness"]["kron"]
    return Ruling(
        graded(worst < 1.5, worst < 0.1 * m["before"]),
        f"eigenvalues within {worst:.2g} of 1",
        "With gradients A Z B from a known distribution every eigenvalue of E[(P g)(P g)^T] ends within a factor "
        f"of {worst:.2g} of 1, from {m['before']:.0f} before: P g becomes white, where P = Q^T Q, not Q g.",
    )
