"""ESGD-M: what the README says (before its second version)."""

from __future__ import annotations

import math
from typing import Any

from optbench.claims import Document, Measurement, Numbers, Ruling, claim, graded
from optbench.claims.plots import Figure, Mark, Panel, Series
from optbench.execute.request import Request

ROUNDING = 1e-12
CLASSES = {
    "SGD class": ("sgd", "momentum"),
    "Adagrad/Adam class": ("adam", "adagrad"),
    "second order": ("esgd", "xmat[mode=hessian]", "lra[mode=hessian]", "affine[mode=hessian]"),
    "whitening (not in the README)": ("xmat", "kron"),
}
EXPONENTS = {
    "SGD class": (-1, 2),
    "Adagrad/Adam class": (0, 1),
    "second order": (0, 0),
    "whitening (not in the README)": (0, 1),
}
"""With which power of n the learning rate must move when the loss, and when the parameters, are n times what they were."""
EXACT = {"adam": "adam[eps=0.0]", "adagrad": "adagrad[initial=1e-300]", "esgd": "esgd[eps=0.0]"}
"""The forms without a constant that has the size of a gradient or of a curvature."""

LAWS = Measurement(
    call="scaling:laws",
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
CADENCE = Measurement(call="esgd:steps_of_products", inputs={"steps": 100})
COST = Measurement(call="esgd:product_cost", inputs={"problem": "mlp", "steps": 60, "rounds": 11})
TORCH_COST = Measurement(
    call="torch_esgd:product_cost", inputs={"problem": "mlp", "steps": 20, "rounds": 11}, framework="torch"
)
GRAPHS = Measurement(call="torch_esgd:graphs", inputs={"steps": 60}, framework="torch")
CURVATURE = Measurement(call="esgd:curvature", inputs={"size": 8, "products": 4000, "seed": 0})
EARLY = Measurement(call="esgd:early", inputs={"size": 8, "steps": 20, "seeds": 300})
MOMENTUM = Measurement(call="esgd:momentum", inputs={"steps": 200, "seed": 0})
DECAY = Measurement(call="esgd:decay", inputs={"steps": 50, "weight_decay": 0.1})
WARMUP = Measurement(call="esgd:warmup", inputs={"marks": [100, 300]})
PLAIN = "esgd[nu=0.0]"
STUDY = Measurement(call="studies:study", runs=(Request(task=("mlp",), opt=("esgd", PLAIN)),))


def lawful(m: Any, group: str) -> Ruling:
    """Whether a class of methods follows its two laws: the exponents, and the path when the learning rate moves so."""
    rows = [row for row in m if row["method"] in CLASSES[group]]
    right = all(abs(e - row["documented"]) < 1e-6 for row in rows for e in row["exponents"])
    exact, usual = (max(row[key] for row in rows) for key in ("off_exact", "off"))
    worst = max(rows, key=lambda row: row["off"])
    names = ", ".join(dict.fromkeys(row["method"].partition("[")[0] for row in rows))
    return Ruling(
        graded(right and usual < 1e-6, right and exact < 1e-6),
        f"exact to {exact:.0e}, default {usual:.1g}",
        f"Loss and parameters times 100 and 0.01, 30 steps in float64 ({names}): the learning rate moves as said, paths "
        f"agree to {exact:.0e} without eps"
        + (
            f" and are {usual:.1g} off with defaults ({worst['method']}, {worst['what']})."
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


@claim("every ten optimizer steps ... for the first d_warmup steps", "steps 1..20, then every 10th", CADENCE)
def product_every_ten(m: Numbers) -> Ruling:
    """Hessian-vector products are taken on the first 20 steps, then at every tenth."""
    asked = m["steps"]
    first = next(
        i for i, (t, step) in enumerate(zip(range(1, m["of"] + 2), [*asked, 0], strict=False)) if t != step
    )
    gaps = {b - a for a, b in zip(asked[first - 1 :], asked[first:], strict=False)}
    return Ruling(
        graded(first == 20 and gaps == {10}),
        f"1..{first}, then every {'/'.join(map(str, sorted(gaps)))}",
        f"{len(asked)} products in {m['of']} steps: {first} at the start, then at steps {asked[first]}, {asked[first + 1]}, ...",
    )


@claim("approximately the same cost as a gradient evaluation", "1 gradient", COST)
def product_cost(m: Numbers) -> Ruling:
    """A Hessian-vector product costs about as much as a gradient."""
    return priced(m, "in JAX, forward over reverse in one pass with the gradient")


@claim("around the same amount of time as a gradient evaluation", "1 gradient", TORCH_COST)
def product_cost_torch(m: Numbers) -> Ruling:
    """A Hessian-vector product costs about as much as a gradient, in PyTorch."""
    return priced(m, "in PyTorch, with create_graph and a second backward pass")


def priced(m: Numbers, how: str) -> Ruling:
    """What a product adds to a gradient, and what the default cadence makes of it."""
    more = m["both"] / m["gradient"] - 1
    return Ruling(
        graded(0.5 <= more <= 1.5, more <= 3),
        f"{more:.1f} gradients",
        f"CPU on the digits network {how}: a step with a product takes {1 + more:.1f} gradients, so at every tenth step "
        f"the average step takes {1 + more / 10:.2f}.",
    )


@claim("estimates the diagonal of the absolute Hessian, diag(|H|)", "diag(|H|)", CURVATURE)
def diagonal(m: Numbers) -> Ruling:
    """The products estimate the diagonal of the absolute Hessian."""
    apart, nearest = m["apart"], min(m["apart"], key=m["apart"].get)
    right = {"absolute diagonal", "diagonal of |H|"}
    return Ruling(
        graded(nearest in right and apart[nearest] < 0.05, m["diagonal"] < 0.01),
        f"the {nearest} of H" if nearest == "row norms" else f"the {nearest}",
        f"On a full 8 x 8 Hessian sqrt(D) is within {apart['row norms']:.1%} of the norms of H's rows, "
        f"{apart['diagonal of |H|']:.0%} from diag(|H|) and {apart['absolute diagonal']:.0%} from |diag(H)|; the three are "
        "equal where H is diagonal. (The second version's README says sqrt(diag(H^2)).)",
    )


@claim("to obtain a lower variance estimate of diag(|H|) quickly", "lower variance", EARLY)
def lower_variance(m: Numbers) -> Ruling:
    """The products of the first 20 steps make the early estimate less noisy."""
    with_, without = m["d_warmup=20"], m["d_warmup=1"]
    return Ruling(
        graded(with_["deviation"] < without["deviation"]),
        f"{with_['deviation']:.0%}, without {without['deviation']:.0%}",
        f"Relative deviation over 300 seeds of the estimate at step 20, from {with_['products']} products and from "
        f"{without['products']} without d_warmup.",
    )


@claim("if nu is not specified ... producing Nesterov momentum", "Nesterov", MOMENTUM)
def nesterov(m: Numbers) -> Ruling:
    """The default momentum is Nesterov's."""
    return preset(
        m, "default is nesterov", "Nesterov's momentum written as g + b v, over its bias correction"
    )


@claim("betas=(0.999, 0.999), nu=0.7", "quasi-hyperbolic momentum", MOMENTUM)
def quasi_hyperbolic(m: Numbers) -> Ruling:
    """betas=(0.999, 0.999) and nu=0.7 give quasi-hyperbolic momentum."""
    return preset(m, "qhm", "0.3 g + 0.7 of the average, over its bias correction")


@claim("Setting nu equal to 1 will do normal (non-Nesterov) momentum", "plain momentum", MOMENTUM)
def plain_momentum(m: Numbers) -> Ruling:
    """nu=1 is momentum without look-ahead."""
    return preset(m, "nu=1 is plain momentum", "the bias-corrected average of gradients")


def preset(m: Numbers, name: str, reference: str) -> Ruling:
    """Whether a preset is the momentum that it is said to be."""
    return Ruling(
        graded(m[name] < ROUNDING),
        f"{m[name]:.0e} apart",
        f"200 steps with a constant curvature in float64, against {reference} in NumPy.",
    )


@claim(
    "incorporates ... momentum ..., which considerably improves its performance",
    "better than plain ESGD",
    STUDY,
)
def momentum_helps(m: Numbers) -> Ruling:
    """Momentum considerably improves the performance over plain ESGD."""
    run = m["runs"][0]
    ours, plain = (at_best(run[name]) for name in ("esgd", PLAIN))
    steps = [run[name]["targets"][1]["steps"] for name in ("esgd", PLAIN)]
    better, faster = ours[2] < plain[1], steps[0] < steps[1]
    return Ruling(
        graded(better and faster, better or faster),
        f"loss {ours[0]:.2g}, without {plain[0]:.2g}",
        f"On the digits network, each at its best learning rate, the intervals of the validation loss are "
        f"{'apart' if better else 'not apart'}; the error of 5% is reached in {said(steps[0])} steps with momentum and in "
        f"{said(steps[1])} without.",
    )


def at_best(row: dict[str, Any]) -> list[float]:
    """Final loss at the best learning rate: median and interval."""
    return next(at["final"] for at in row["rates"] if at["rate"] == row["best_rate"])


def said(steps: float) -> str:
    """A number of steps, or more than were run."""
    return f"{steps:.0f}" if math.isfinite(steps) else "more than the run's"


@claim("You may need to try learning rates in the range 1e-3 to 1", "0.001 to 1", STUDY)
def learning_rates(m: Numbers) -> Ruling:
    """Learning rates from 0.001 to 1 are those to try."""
    row = m["runs"][0]["esgd"]
    good = [at["rate"] for at in row["rates"] if math.isfinite(at["steps"])]
    inside = 0.001 <= row["best_rate"] <= 1
    return Ruling(
        graded(inside and max(good, default=0) <= 1.001, inside),
        f"best {row['best_rate']:.2g}",
        f"On the digits network, of nine rates from 0.001 to 10, those from {min(good):.2g} to {max(good):.2g} reach the "
        "first target."
        if good
        else "No rate from 0.001 to 10 reaches the first target on the digits network.",
    )


@claim(
    "multiplied by the current learning rate to determine the factor", "weight_decay times the rate", DECAY
)
def weight_decay(m: Numbers) -> Ruling:
    """The factor of the decay is weight_decay times the current learning rate."""
    off = max(abs(m["ratio_low"] - 1), abs(m["ratio_high"] - 1))
    return Ruling(
        graded(off < ROUNDING),
        f"{off:.0e} off",
        "A parameter without gradient shrinks at each of 50 steps by weight_decay times the learning rate of that step, "
        "the warmup's factor included.",
    )


@claim("reaches 63% ... in 100 steps and 95% in 300 steps", "63% at 100, 95% at 300", WARMUP)
def warmup(m: Numbers) -> Ruling:
    """The learning rate reaches 63 % in 100 steps and 95 % in 300."""
    at = {int(step): share for step, share in m["share"].items()}
    return Ruling(
        graded(round(at[100], 2) == 0.63 and round(at[300], 2) == 0.95),
        f"{at[100]:.2%} at 100, {at[300]:.2%} at 300",
        "The size of the steps under a constant gradient, without momentum.",
    )


@claim("call .backward() with create_graph=True ... on those steps", "only on those steps", GRAPHS)
def create_graph(m: Numbers) -> Ruling:
    """A graph of the gradient is needed on the steps with a product, and only there."""
    few, fails = len(m["asked"]) < m["of"], bool(m["error"])
    return Ruling(
        graded(few and fails, few),
        f"{len(m['asked'])} of {m['of']} steps",
        "should_create_graph() asks for it on those; the others run without one"
        + (", and a step with a product but no graph raises an error." if fails else "."),
    )


def scaling_figure(numbers: Any) -> Figure | None:
    """How far the path is off, with defaults and without eps, for each method and rescaling."""
    m = numbers(LAWS)
    if m is None:
        return None
    rows = tuple(f"{row['method']}: {row['what']}, rate n^{row['documented']}" for row in m)
    rows = tuple(text.replace("n^0", "as it is").replace("n^1", "n") for text in rows)
    places = list(range(len(m)))
    series = (
        Series(
            label="without eps",
            x=[max(row["off_exact"], 1e-17) for row in m],
            y=places,
            line=False,
            markers=True,
        ),
        Series(
            label="with defaults", x=[max(row["off"], 1e-17) for row in m], y=places, line=False, markers=True
        ),
    )
    return Figure(
        name="scaling-laws",
        caption="Loss or parameters times 100 and 0.01, the learning rate moved by the law of its class: how far the path "
        "gets off in 30 float64 steps, relative to its length. kron starts from a fixed scale, so the law holds later only.",
        panels=(
            Panel(
                title="", x="largest distance between paths", y="", series=series, rows=rows, log_x=True,
                marks=(Mark(text="float64 rounding", x=2.2e-16),),
            ),
        ),
    )  # fmt: skip


document = Document(
    name="esgd-m",
    title="ESGD-M: README of commit f0d40c5",
    source="https://github.com/crowsonkb/esgd (f0d40c5)",
    claims=(
        scaling_sgd, scaling_adam, scaling_second_order, product_every_ten, product_cost, product_cost_torch, diagonal,
        lower_variance, nesterov, quasi_hyperbolic, plain_momentum, momentum_helps, learning_rates, weight_decay, warmup,
        create_graph,
    ),
    figures=(scaling_figure,),
)  # fmt: skip
