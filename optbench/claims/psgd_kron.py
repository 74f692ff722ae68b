"""psgd-jax: what the README and the docstrings of kron.py say about kron."""

from __future__ import annotations

from statistics import geometric_mean
from typing import Any

from optbench.claims import Document, Measurement, Numbers, Ruling, claim, graded
from optbench.claims.psgd_schedule import (
    schedule_end,
    schedule_figure,
    schedule_flat,
    slow_start,
    update_probability,
)
from optbench.execute.request import Request

LAYER, BIAS, SQUARE, TALL, KERNEL = "(256, 128)", "(256,)", "(64, 64)", "(9000, 16)", "(3, 3, 8, 16)"
SHAPES = {
    LAYER: [256, 128], BIAS: [256], SQUARE: [64, 64], TALL: [9000, 16], KERNEL: [3, 3, 8, 16],
}  # fmt: skip
LARGEST = 8192
"""The default of max_size_triangular."""

FACTORS = Measurement(
    call="state:factor_shapes", inputs={"shapes": SHAPES, "modes": [None, "one_diag", "all_diag"]}
)
ARGUMENTS = Measurement(call="state:arguments")
MOVED = Measurement(
    call="training:hyperparameters",
    cost=30,
    inputs={
        "problem": "mlp[width=64]",
        "steps": 100,
        "seeds": 3,
        "rates": [0.001, 0.003, 0.01],
        "moved": {
            "kron": {
                "b1": [0.0, 0.99],
                "preconditioner_lr": [0.01, 1.0],
                "preconditioner_init_scale": [0.1, 10.0],
                "preconditioner_update_probability": [0.1],
            },
            "adam": {"b1": [0.0, 0.99], "b2": [0.99, 0.9999], "eps": [1e-9, 1e-7]},
        },
    },
)
STUDY = Measurement(call="studies:study", runs=(Request(task=("mlp",), opt=("adam", "kron"), seeds=3),))
FITS = Measurement(
    call="psgd_fit:matrix_fits",
    cost=6,
    inputs={"shape": [4, 3], "steps": 3000, "rates": [0.1, 0.01], "seed": 0},
)
CONTRACTION = Measurement(call="psgd_fit:contraction", inputs={"shape": [6, 4], "seed": 0})


@claim(
    "would be shapes (256, 256) and (128, 128)", "(256, 256), (128, 128); diagonal (256,), (128,)", FACTORS
)
def factor_shapes(m: Numbers) -> Ruling:
    """A layer (256, 128) has factors (256, 256) and (128, 128), or (256,) and (128,) if diagonal."""
    triangular, diagonal = m["None"][LAYER], m["all_diag"][LAYER]
    return Ruling(
        graded(triangular == [[256, 256], [128, 128]] and diagonal == [[256], [128]]),
        f"{shown(triangular)}; {shown(diagonal)}",
        "These are the shapes in the first state, by default and with memory_save_mode='all_diag'.",
    )


@claim("triangular except for 1-dimensional layers and very large", "all but vectors and large dims", FACTORS)
def mostly_triangular(m: Numbers) -> Ruling:
    """By default factors are triangular except for 1-dimensional layers and very large dimensions."""
    wrong = [
        f"axis {i} of {leaf}"
        for leaf, factors in m["None"].items()
        for i, factor in enumerate(factors)
        if (len(factor) == 2) != (len(SHAPES[leaf]) > 1 and SHAPES[leaf][i] <= LARGEST)
    ]
    dense = sum(len(factor) == 2 for factors in m["None"].values() for factor in factors)
    return Ruling(
        graded(not wrong),
        f"{dense} of {sum(map(len, m['None'].values()))} factors triangular",
        f"Of five leaves the vector {BIAS} and the axis of 9,000 are diagonal, every other axis is triangular."
        if not wrong
        else f"It is otherwise for {', '.join(wrong)}.",
    )


@claim("sets the largest or last dim per layer as diagonal", "the largest axis, the last of equals", FACTORS)
def one_diag(m: Numbers) -> Ruling:
    """memory_save_mode='one_diag' makes the largest dimension diagonal, the last one on ties."""
    expected = {
        leaf: max(range(len(shape)), key=lambda i: (shape[i], i))
        for leaf, shape in SHAPES.items()
        if len(shape) > 1
    }
    found = {
        leaf: [i for i, factor in enumerate(m["one_diag"][leaf]) if len(factor) == 1] for leaf in expected
    }
    good = all(found[leaf] == [axis] for leaf, axis in expected.items())
    return Ruling(
        graded(good),
        ", ".join(f"axis {str(found[leaf]).strip('[]') or '-'} of {leaf}" for leaf in (LAYER, SQUARE)),
        f"So it is on {len(expected)} leaves of 2 to 4 dimensions."
        if good
        else f"Diagonal axes are {found}.",
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
        "Beside the learning rate, tuned again each time, moving these by about a factor of ten (b1 and "
        "b2: of the horizon) costs more than the seeds differ on a digits network of half the width: kron "
        f"{words['kron']}; Adam {words['adam']}.",
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
    ranges = [
        " to ".join(f"{rate:.2g}" for rate in sorted({min(rates), max(rates)})) for rates in (kron, adam)
    ]
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
    rates = [row["rate"] for row in adam["rates"]]
    i = rates.index(adam["best_rate"])
    own, same, lower = adam["rates"][i], kron["rates"][i], kron["rates"][max(0, i - 1)]
    works = [row["steps"] < float("inf") for row in (same, lower)]
    good = [row["final"][1] <= own["final"][2] for row in (same, lower)]
    return Ruling(
        graded(all(works) and all(good), any(works)),
        f"loss {same['final'][0]:.2g} and {lower['final'][0]:.2g}, Adam {own['final'][0]:.2g}",
        f"At Adam's best learning rate ({own['rate']:.2g}) and at the next lower one "
        f"({lower['rate']:.2g}) kron reaches the first target in {said(same['steps'])} and "
        f"{said(lower['steps'])} steps, Adam in {said(own['steps'])}; its final validation loss is "
        f"{AS_GOOD[sum(good)]}. One small network.",
    )


AS_GOOD = ("worse than Adam's at both", "as good as Adam's at one of them", "as good as Adam's")
"""By at how many of the two learning rates it is."""


def said(steps: float) -> str:
    """A number of steps."""
    return "no number of" if steps == float("inf") else f"{steps:.0f}"


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
        "With gradients A Z B from a known distribution every eigenvalue of E[(P g)(P g)^T] ends within "
        f"a factor of {worst:.2g} of 1, from {m['before']:.0f} before: P g becomes white, where P = Q^T "
        "Q, not Q g.",
    )


def shown(shapes: list[list[int]]) -> str:
    """`(256, 256), (128, 128)`."""
    return ", ".join(str(tuple(shape)) for shape in shapes)


document = Document(
    name="psgd-kron",
    title="psgd-jax 0.2.9: README and docstrings, kron",
    source="https://github.com/evanatyourservice/psgd_jax (be95524)",
    optimizers=("kron",),
    claims=(
        schedule_end, schedule_flat, update_probability, slow_start, factor_shapes, mostly_triangular, one_diag,
        no_b2_or_epsilon, fewer_hyperparameters, learning_rate, drop_in, contracting_axis, whitening,
    ),
    figures=(schedule_figure,),
)  # fmt: skip
