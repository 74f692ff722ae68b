"""ESGD-M: what the README says (before its second version)."""

from __future__ import annotations

import math

from optbench.claims import Document, Measurement, Numbers, Ruling, claim, graded
from optbench.claims.esgd_scaling import (
    scaling_adam,
    scaling_figure,
    scaling_second_order,
    scaling_sgd,
    scaling_table,
)
from optbench.execute.request import Request

ROUNDING = 1e-12
CADENCE = Measurement(call="esgd:steps_of_products", inputs={"steps": 100})
COST = Measurement(call="esgd:product_cost", cost=3, inputs={"problem": "mlp", "steps": 60, "rounds": 25})
TORCH_COST = Measurement(
    call="torch_esgd:product_cost", inputs={"problem": "mlp", "steps": 20, "rounds": 25}, framework="torch"
)
GRAPHS = Measurement(call="torch_esgd:graphs", inputs={"steps": 60}, framework="torch")
CURVATURE = Measurement(call="esgd:curvature", inputs={"size": 8, "products": 4000, "seed": 0})
EARLY = Measurement(call="esgd:early", inputs={"size": 8, "steps": 20, "seeds": 300})
MOMENTUM = Measurement(call="esgd:momentum", inputs={"steps": 200, "seed": 0})
DECAY = Measurement(call="esgd:decay", inputs={"steps": 50, "weight_decay": 0.1})
WARMUP = Measurement(call="esgd:warmup", inputs={"marks": [100, 300]})
PLAIN = "esgd[nu=0.0]"
TASKS = ("mlp", "quadratic_10", "rosenbrock_2")
STUDY = Measurement(call="studies:study", runs=(Request(task=TASKS, opt=("esgd", PLAIN)),))
ABOUT = 1.25
"""Times as much, or as little, is approximately the same."""
CONSIDERABLE = 0.8
"""Fewer than this share of the steps is a considerable improvement."""


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
        f"{len(asked)} products in {m['of']} steps: {first} at the start, then at steps {asked[first]}, "
        f"{asked[first + 1]}, ...",
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
        graded(1 / ABOUT <= more <= ABOUT),
        f"{more:.1f} gradients",
        f"CPU on the digits network {how}: a step with a product takes {1 + more:.1f} gradients, so at "
        f"every tenth step the average step takes {1 + more / 10:.2f}.",
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
        f"{apart['diagonal of |H|']:.0%} from diag(|H|) and {apart['absolute diagonal']:.0%} from "
        "|diag(H)|; the three are equal where H is diagonal. (The second version's README says "
        "sqrt(diag(H^2)).)",
    )


@claim("to obtain a lower variance estimate of diag(|H|) quickly", "lower variance", EARLY)
def lower_variance(m: Numbers) -> Ruling:
    """The products of the first 20 steps make the early estimate less noisy."""
    with_, without = m["d_warmup=20"], m["d_warmup=1"]
    return Ruling(
        graded(with_["deviation"] < without["deviation"]),
        f"{with_['deviation']:.0%}, without {without['deviation']:.0%}",
        f"Relative deviation over 300 seeds of the estimate at step 20, from {with_['products']} "
        f"products and from {without['products']} without d_warmup.",
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
        f"{m[name]:.1g} apart",
        f"200 steps with a constant curvature in float64, against {reference} in NumPy.",
    )


@claim(
    "incorporates ... momentum ..., which considerably improves its performance",
    "better than plain ESGD",
    STUDY,
)
def momentum_helps(m: Numbers) -> Ruling:
    """Momentum considerably improves the performance over plain ESGD."""
    steps = {task: [run[name]["steps"] for name in ("esgd", PLAIN)] for task, run in m["runs"][0].items()}
    helped = [
        task for task, (ours, plain) in steps.items() if ours <= CONSIDERABLE * plain and math.isfinite(ours)
    ]
    pairs = [f"{task}: {said(ours)} and {said(plain)}" for task, (ours, plain) in steps.items()]
    return Ruling(
        graded(len(helped) == len(steps), bool(helped)),
        f"on {len(helped)} of {len(steps)} tasks",
        "Steps to the main target, each at its best of nine learning rates, with momentum and without: "
        f"{', '.join(pairs)}. Considerable is a fifth fewer.",
    )


def said(steps: float) -> str:
    """A number of steps, or never."""
    return f"{steps:.0f}" if math.isfinite(steps) else "never"


@claim("You may need to try learning rates in the range 1e-3 to 1", "0.001 to 1", STUDY)
def learning_rates(m: Numbers) -> Ruling:
    """Learning rates from 0.001 to 1 are those to try."""
    rows = {task: run["esgd"] for task, run in m["runs"][0].items()}
    inside = [task for task, row in rows.items() if 0.001 <= row["best_rate"] <= 1.0 + 1e-9]
    best = ", ".join(f"{row['best_rate']:.2g} ({task})" for task, row in rows.items())
    return Ruling(
        graded(len(inside) == len(rows), bool(inside)),
        f"best in it on {len(inside)} of {len(rows)} tasks",
        f"Of nine rates from 0.001 to 10 the best are {best}.",
    )


@claim(
    "multiplied by the current learning rate to determine the factor", "weight_decay times the rate", DECAY
)
def weight_decay(m: Numbers) -> Ruling:
    """The factor of the decay is weight_decay times the current learning rate."""
    off = max(abs(m["ratio_low"] - 1), abs(m["ratio_high"] - 1))
    return Ruling(
        graded(off < ROUNDING),
        f"{off:.1g} off",
        "A parameter without gradient shrinks at each of 50 steps by weight_decay times the learning "
        "rate of that step, the warmup's factor included.",
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


document = Document(
    name="esgd-m",
    title="ESGD-M: README of commit f0d40c5",
    source="https://github.com/crowsonkb/esgd (f0d40c5)",
    optimizers=("esgd",),
    claims=(
        scaling_sgd, scaling_adam, scaling_second_order, product_every_ten, product_cost, product_cost_torch, diagonal,
        lower_variance, nesterov, quasi_hyperbolic, plain_momentum, momentum_helps, learning_rates, weight_decay,
        warmup, create_graph,
    ),
    figures=(scaling_figure,),
    tables=(scaling_table,),
)  # fmt: skip
