"""ESGD-M: how the README says that learning rates move when the loss or the parameters are rescaled."""

from __future__ import annotations

from typing import Any

from optbench.claims import Lookup, Measurement, Ruling, claim, graded
from optbench.claims.plots import Figure, Mark, Panel, Series, Table

CLASSES = {
    "SGD class": ("sgd", "momentum"),
    "Adagrad/Adam class": ("adam", "adagrad"),
    "second order": ("esgd", "xmat[mode=hessian]", "lra[mode=hessian]", "affine[mode=hessian]"),
    "not in the README": ("xmat", "kron"),
}
EXPONENTS = {
    "SGD class": (-1, 2),
    "Adagrad/Adam class": (0, 1),
    "second order": (0, 0),
    "not in the README": (0, 1),
}
"""The power of n with which the learning rate moves when the loss, and when the parameters, become n times as large."""
EXACT = {"adam": ("eps", 0.0), "adagrad": ("initial", 1e-300), "esgd": ("eps", 0.0)}
"""The constant that has the size of a gradient or of a curvature, and the value that takes it away."""

FLOOR = 2.0**-52
"""The rounding of float64, below which distances are not told apart."""

LAWS = Measurement(
    call="scaling:laws",
    cost=15,
    inputs={
        "methods": {
            name: [*EXPONENTS[group], EXACT.get(name)] for group, names in CLASSES.items() for name in names
        },
        "factors": [100.0, 0.01],
        "steps": 30,
        "rate": 0.01,
        "seed": 0,
    },
)


def lawful(m: Any, group: str) -> Ruling:
    """Whether a class of methods follows its two laws: the exponents, and the path when the learning rate moves so."""
    rows = [row for row in m if row["method"] in CLASSES[group]]
    right = all(abs(e - row["documented"]) < 1e-6 for row in rows for e in row["exponents"])
    exact, usual = (max(row[key] for row in rows) for key in ("off_exact", "off"))
    worst = max(rows, key=lambda row: row["off"])
    bare = " (adagrad: its first sum)" if group == "Adagrad/Adam class" else ""
    names = ", ".join(dict.fromkeys(row["method"].partition("[")[0] for row in rows))
    return Ruling(
        graded(right and usual < 1e-6, right and exact < 1e-6),
        f"{exact:.1g} off" + f", {usual:.1g} with eps" * (usual > 1e-6),
        f"Loss and parameters times 100 and 0.01, 30 steps in float64 ({names}): the learning rate moves "
        f"as said, and paths are {exact:.1g} of their length apart"
        + (
            f" without eps{bare}, {usual:.1g} with defaults ({worst['method']}, {worst['what']})."
            if usual > 1e-6
            else "."
        ),
    )


@claim("scale your learning rate by a factor of n^2 ... 1 / n", "n^2 with parameters, 1/n with loss", LAWS)
def scaling_sgd(m: Any) -> Ruling:
    """SGD's learning rate must move with n^2 when parameters are n times as large, with 1/n when the loss is."""
    return lawful(m, "SGD class")


@claim("scale your learning rate by a factor of n", "n with parameters, not with loss", LAWS)
def scaling_adam(m: Any) -> Ruling:
    """Adam's and Adagrad's learning rate must move with n when parameters are n times as large, not with the loss."""
    return lawful(m, "Adagrad/Adam class")


@claim("You do not have to scale your learning rate if you rescale either", "with neither", LAWS)
def scaling_second_order(m: Any) -> Ruling:
    """The learning rate of second-order methods moves neither with the parameters nor with the loss."""
    return lawful(m, "second order")


def short(method: str) -> str:
    """`xmat, hessian` for `xmat[mode=hessian]`."""
    return method.replace("[mode=", " ").rstrip("]")


def scaling_figure(numbers: Lookup) -> Figure | None:
    """How far the path is off, with defaults and without eps, for each method and rescaling."""
    m = numbers(LAWS)
    if m is None:
        return None
    rates = {-1: "1/n", 0: "1", 1: "n", 2: "n^2"}
    rows = tuple(f"{short(row['method'])}, {row['what']}: {rates[row['documented']]}" for row in m)
    series = tuple(
        Series(
            label=label,
            x=[max(row[key], FLOOR) for row in m],
            y=list(range(len(m))),
            line=False,
            markers=True,
        )
        for label, key in (("with defaults", "off"), ("without eps", "off_exact"))
    )
    return Figure(
        name="scaling-laws",
        caption="Loss or parameters times 100 and 0.01, the learning rate moved by the law of its class: how "
        "far the path gets off in 30 float64 steps, relative to its length. kron starts from a fixed "
        "scale: its law holds once it has forgotten that.",
        panels=(
            Panel(
                title="What becomes n times as large: factor of the learning rate",
                x="largest distance between paths",
                y="",
                series=series,
                rows=rows,
                log_x=True,
                marks=(Mark(text="rounding", x=FLOOR),),
            ),
        ),
    )


def scaling_table(numbers: Lookup) -> Table | None:
    """Every method and rescaling: the law, the measured exponent, and how far the path is off."""
    m = numbers(LAWS)
    if m is None:
        return None
    groups = {name: group for group, names in CLASSES.items() for name in names}
    rows = tuple(
        (
            groups[row["method"]],
            row["method"],
            row["what"],
            f"n^{row['documented']}",
            ", ".join(f"{round(exponent, 6) + 0.0:.3g}" for exponent in row["exponents"]),
            f"{row['off_exact']:.1g}",
            f"{row['off']:.1g}",
        )
        for row in m
    )
    return Table(
        name="scaling-laws",
        caption="How the learning rate must move when the loss or the parameters become n times what they "
        "were: the law, the exponent that the first step asks for at n = 100 and 0.01, and the largest "
        "distance between the paths of 30 float64 steps under the law, relative to their length, without "
        "eps (adagrad: without its first sum) and with defaults. kron starts from a fixed scale: its law holds "
        "once it has forgotten that.",
        header=("class", "method", "rescaled", "rate", "exponent", "off, no eps", "off, default"),
        rows=rows,
    )
