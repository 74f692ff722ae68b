"""psgd-jax: what the README and the docstrings of kron.py say about kron."""

import math
from operator import truediv
from typing import Any

from optbench.claim import Document, Kind, Measurement, Numbers, Ruling, Verdict, graded
from optbench.claim.plots import Figure, Mark, Panel, Series
from optbench.claim.rules import Answer, any_of, beyond, decided, median_of, over_seeds, paired, within
from optbench.execute.request import Request
from optbench.wording import interval, whole

from . import studied

document = Document(
    name="psgd-kron", title="psgd-jax 0.2.9: README and docstrings, kron", optimizers=("kron",),
    source="https://github.com/evanatyourservice/psgd_jax (be95524)",
)  # fmt: skip
claim = document.claim
LAYER, BIAS, SQUARE, TALL, KERNEL = "(256, 128)", "(256,)", "(64, 64)", "(9000, 16)", "(3, 3, 8, 16)"
SHAPES = {LAYER: [256, 128], BIAS: [256], SQUARE: [64, 64], TALL: [9000, 16], KERNEL: [3, 3, 8, 16]}
LARGEST = 8192
"""The default of max_size_triangular."""
LEAST = 0.03
DOCUMENTED_END, DOCUMENTED_FLAT = 4000, 250
SLIGHTLY = 1.25
"""Times the cost of a late step: slightly slower."""
HELPS = 1.1
"""A setting needs tuning where another value divides the loss by this; a loss up to this many times is as good."""
HALF = (0.25, 1.1)
"""Learning rates like Adam's, or about half of it, as a share of Adam's."""

SCHEDULE = Measurement.of(
    "psgd_schedule:update_steps", cost=4, steps=6000, constants=[0.9, 0.7, 0.5, 0.4, 0.25, 0.1],
    marks=[500, 1000, 2000, 4000, 6000], window=100,
)  # fmt: skip
COST = Measurement.of(
    "psgd_schedule:update_cost", cost=5, kind=Kind.TRAINING, problem="mlp", steps=40, rounds=15
)
FACTORS = Measurement.of("state:factor_shapes", shapes=SHAPES, modes=[None, "one_diag", "all_diag"])
MOVED = Measurement.of(
    "training:hyperparameters", cost=50, kind=Kind.TRAINING,
    problem="mlp[width=64]", steps=100, seeds=5, rates=[0.001, 0.003, 0.01],
    moved={
        "kron": {"b1": [0.0, 0.99], "preconditioner_lr": [0.01, 1.0], "preconditioner_init_scale": [0.1, 10.0],
                 "preconditioner_update_probability": [0.1]},
        "adam": {"b1": [0.0, 0.99], "b2": [0.99, 0.9999], "eps": [1e-9, 1e-7]},
    },
)  # fmt: skip
STUDY = studied(Request("classic", task=("mlp",), opt=("adam", "kron")))
FITS = Measurement.of(
    "psgd_fit:matrix_fits", cost=6, kind=Kind.TRAINING, shape=[4, 3], steps=3000, rates=[0.1, 0.01], seed=0
)
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
    ratio = spent["fitted"] / late
    return Ruling(
        graded(1 < ratio <= SLIGHTLY),
        f"{ratio:.1f} times the late step",
        f"On the digits network a step that fits takes {ratio:.2f} times the CPU time of the average step after 4,000, "
        f"which takes {late / spent['gradient']:.1f} times a gradient. Slightly slower is up to {SLIGHTLY:g} times.",
    )


def averaged(spent: dict[str, float], rate: float) -> float:
    """The average cost of a step at a rate of fits per step."""
    return spent["applied"] + rate * (spent["fitted"] - spent["applied"])


@document.show(SCHEDULE, COST)
def schedule_figure(schedule: Any, cost: Any) -> Figure:
    curve, spent = schedule["curve"], cost["microseconds"]
    relative = [averaged(spent, rate) / spent["gradient"] for rate in curve["rate"]]
    ends = (
        Mark(text=f"docstring: {DOCUMENTED_FLAT}", x=DOCUMENTED_FLAT),
        Mark(text=f"0.03 at {schedule['least_at']:,}", x=schedule["least_at"]),
    )
    rates = (
        Series(label="update probability", x=curve["step"], y=curve["probability"]),
        Series(label="measured fits per step", x=curve["step"], y=curve["rate"]),
    )
    return Figure(
        name="kron-schedule",
        caption="Left: kron's default schedule as the README plots it, and the measured rate of fits, one every "
        "ceil(1/p) steps. Right: cost of a training step in gradients of the digits network.",
        panels=(
            Panel(title="Default schedule", x="step", y="fits per step", series=rates, marks=ends, limits=(0.0, 1.12)),
            Panel(
                title="CPU time per step", x="step", y="gradients",
                series=(Series(label="with kron", x=curve["step"], y=relative, optimizer="kron"),),
                marks=(Mark(text="gradient alone", y=1.0),),
                limits=(0.0, 1.08 * max(relative)),
            ),
        ),
    )  # fmt: skip


@claim("shapes (256, 256) and (128, 128)", "(256, 256), (128, 128); diagonal (256,), (128,)", FACTORS)
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
    dense = {(leaf, i): len(f) == 2 for leaf, factors in m["None"].items() for i, f in enumerate(factors)}
    expected = {(leaf, i): len(SHAPES[leaf]) > 1 and SHAPES[leaf][i] <= LARGEST for leaf, i in dense}
    wrong = [f"axis {i} of {leaf}" for leaf, i in dense if dense[leaf, i] != expected[leaf, i]]
    return Ruling(
        graded(not wrong),
        f"{sum(dense.values())} of {len(dense)} factors triangular",
        f"Not as documented: {', '.join(wrong)}."
        if wrong
        else f"Of five leaves the vector {BIAS} and the axis of 9,000 are diagonal, every other axis is triangular.",
    )


@claim("sets the largest or last dim per layer as diagonal", "the largest axis, the last of equals", FACTORS)
def one_diag(m: Numbers) -> Ruling:
    """memory_save_mode='one_diag' makes the largest dimension diagonal, the last one on ties."""
    wide = {leaf: shape for leaf, shape in SHAPES.items() if len(shape) > 1}
    diagonal = {leaf: [i for i, f in enumerate(m["one_diag"][leaf]) if len(f) == 1] for leaf in wide}
    good = all(diagonal[leaf] == [max((n, i) for i, n in enumerate(s))[1]] for leaf, s in wide.items())
    return Ruling(
        graded(good),
        ", ".join(f"axis {str(diagonal[leaf]).strip('[]') or '-'} of {leaf}" for leaf in (LAYER, SQUARE)),
        f"Of {len(wide)} leaves of 2 to 4 dimensions, {'all follow' if good else 'not all follow'} this rule.",
    )


@claim("less hyperparameters that need tuning than adam", "fewer than Adam", MOVED)
def fewer_hyperparameters(m: Numbers) -> Ruling:
    """kron has fewer hyperparameters that need tuning than Adam."""
    (kron, kron_maybe), (adam, adam_maybe) = (needing_tuning(m[name]) for name in ("kron", "adam"))
    fewer, no_fewer = len(kron + kron_maybe) < len(adam), len(kron) >= len(adam + adam_maybe)
    pairs = ((kron, kron_maybe), (adam, adam_maybe))
    texts = [", ".join([*sure, *(f"{name}?" for name in maybe)]) or "none" for sure, maybe in pairs]
    return Ruling(
        graded(fewer) if fewer or no_fewer else Verdict.INCONCLUSIVE,
        f"kron {len(kron)}, Adam {len(adam)}",
        "A hyperparameter needs tuning if moving it from its default by about a factor of ten (b1 and b2: of the "
        "horizon) lowers the loss by a tenth in all of five seeds; the learning rate is tuned again each time. On a "
        f"digits network of half the width (?: seeds disagree): kron {texts[0]}; Adam {texts[1]}.",
    )


def needing_tuning(cases: dict[str, list[float]]) -> tuple[list[str], list[str]]:
    """The hyperparameters of which another value than the default helps, and those on which the seeds disagree."""
    helps: dict[str, list[Answer]] = {}
    for case, values in cases.items():
        if case != "default":
            answer = beyond(paired(cases["default"], values, truediv), HELPS)
            helps.setdefault(case.partition("=")[0], []).append(answer)
    answers = {name: any_of(each) for name, each in helps.items()}
    return [n for n, answer in answers.items() if answer], [
        n for n, answer in answers.items() if answer is None
    ]


@claim("slightly lower learning rate (like /2)", "about half of Adam's", STUDY)
def learning_rate(m: Numbers) -> Ruling:
    """kron's learning rate is like Adam's, or about half of it."""
    kron, adam = (m["runs"][0]["mlp"][name]["best_rates"] for name in ("kron", "adam"))
    ratio = paired(kron, adam, truediv)
    return Ruling(
        decided(within(ratio, *HALF)),
        f"{interval(*ratio)} of Adam's",
        "The ratio of the best of nine learning rates on the digits network, chosen for each of five seeds by the "
        f"validation loss: {median_of(kron)} for kron and {median_of(adam)} for Adam. {HALF[0]:g} to {HALF[1]:g} is "
        "like Adam's or about half of it.",
    )


@claim("can generally act as a drop-in replacement", "works where Adam does", STUDY)
def drop_in(m: Numbers) -> Ruling:
    """kron can replace Adam without further tuning, at Adam's learning rate or a slightly lower one."""
    kron, adam = (m["runs"][0]["mlp"][name] for name in ("kron", "adam"))
    own = adam["best"]
    i = [row["rate"] for row in adam["rates"]].index(own["rate"])
    tried = [kron["rates"][i], kron["rates"][max(0, i - 1)]]
    same, lower = (as_good(row, own) for row in tried)
    losses = [median_of(row["loss"]) for row in (*tried, own)]
    steps = [whole(*over_seeds(row["first"])) for row in (*tried, own)]
    return Ruling(
        graded(bool(same), bool(lower)) if any_of((same, lower)) is not None else Verdict.INCONCLUSIVE,
        f"loss {losses[0]} and {losses[1]}, Adam {losses[2]}",
        f"At Adam's best learning rate ({own['rate']:.2g}) and at the next lower one ({tried[1]['rate']:.2g}) kron "
        f"reaches the first target in {steps[0]} and {steps[1]} steps, Adam in {steps[2]}. As good is a final "
        f"validation loss up to {HELPS:g} times Adam's, seed by seed. One small network, five seeds.",
    )


def as_good(ours: Numbers, theirs: Numbers) -> Answer:
    """Whether every seed reaches the first target and the loss is not more than 1.1 times the other."""
    worse = beyond(paired(ours["loss"], theirs["loss"], truediv), HELPS)
    return False if max(ours["first"]) == math.inf else worse if worse is None else not worse


@claim("first axis ... is the contracting axis", "the first axis", CONTRACTION)
def contracting_axis(m: Numbers) -> Ruling:
    """When the preconditioner is applied, the first axis of each factor is contracted."""
    return Ruling(
        graded(m["first"] < 1e-12 < m["last"]),
        "the first axis" if m["first"] < m["last"] else "the last axis",
        f"P G is {m['first']:.1g} from the product that contracts first axes and {m['last']:.1f} from the other: "
        "P = Q^T Q. (Q itself is applied along its last axis.)",
    )


@claim("whitening-based (gg^T) preconditioner", "makes gradients white", FITS)
def whitening(m: Numbers) -> Ruling:
    """The preconditioner whitens the gradient."""
    worst = m["whiteness"]["kron"]
    return Ruling(
        graded(worst < 1.5),
        f"eigenvalues within {worst:.2g} of 1",
        "For gradients A Z B from a known distribution, all eigenvalues of E[(P g)(P g)^T] end within a factor of "
        f"{worst:.2g} of 1, from {m['before']:.0f} before: P g becomes white, where P = Q^T Q, not Q g.",
    )
