"""ESGD-M: what the README says (before its second version)."""

import math
from typing import Any

from optbench.claim import Document, Measurement, Numbers, Ruling, graded
from optbench.claim.plots import Figure, Mark, Panel, Series, Table
from optbench.execute.request import Request

document = Document(
    name="esgd-m",
    title="ESGD-M: README of commit f0d40c5",
    source="https://github.com/crowsonkb/esgd (f0d40c5)",
    optimizers=("esgd",),
)
claim = document.claim
CLASSES = {
    "SGD class": ("sgd", "momentum"),
    "Adagrad/Adam class": ("adam", "adagrad"),
    "second order": ("esgd", "xmat[mode=hessian]", "lra[mode=hessian]", "affine[mode=hessian]"),
    "not in the README": ("xmat", "kron"),
}
EXPONENTS = {
    "SGD class": (-1, 2), "Adagrad/Adam class": (0, 1), "second order": (0, 0), "not in the README": (0, 1),
}  # fmt: skip
"""The power of n with which the learning rate moves when the loss, and when the parameters, become n times as large."""
EXACT = {"adam": ("eps", 0.0), "adagrad": ("initial", 1e-300), "esgd": ("eps", 0.0)}
"""The constant that has the size of a gradient or of a curvature, and the value that takes it away."""
FLOOR = 2.0**-52
"""The rounding of float64, below which distances are not told apart."""
ROUNDING = 1e-12
ABOUT = 1.25
"""Times as much, or as little, is approximately the same."""
CONSIDERABLE = 0.8
"""Fewer than this share of the steps is a considerable improvement."""

METHODS = {name: [*EXPONENTS[group], EXACT.get(name)] for group, names in CLASSES.items() for name in names}
LAWS = Measurement.of(
    "scaling:laws", cost=15, methods=METHODS, factors=[100.0, 0.01], steps=30, rate=0.01, seed=0
)
CADENCE = Measurement.of("esgd:steps_of_products", steps=100)
COST = Measurement.of("esgd:product_cost", cost=3, problem="mlp", steps=60, rounds=25)
TORCH_COST = Measurement.of("torch_esgd:product_cost", framework="torch", problem="mlp", steps=20, rounds=25)
GRAPHS = Measurement.of("torch_esgd:graphs", framework="torch", steps=60)
CURVATURE = Measurement.of("esgd:curvature", size=8, products=4000, seed=0)
EARLY = Measurement.of("esgd:early", size=8, steps=20, seeds=300)
MOMENTUM = Measurement.of("esgd:momentum", steps=200, seed=0)
DECAY = Measurement.of("esgd:decay", steps=50, weight_decay=0.1)
WARMUP = Measurement.of("esgd:warmup", marks=[100, 300])
PLAIN = "esgd[nu=0.0]"
TASKS = ("mlp", "quadratic_10", "rosenbrock_2")
STUDY = Measurement.of("studies:study", Request(task=TASKS, opt=("esgd", PLAIN)))


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


def lawful(m: Any, group: str) -> Ruling:
    """Whether a class of methods follows its two laws: the exponents, and the path when the learning rate moves so."""
    rows = [row for row in m if row["method"] in CLASSES[group]]
    right = all(abs(e - row["documented"]) < 1e-6 for row in rows for e in row["exponents"])
    exact, usual = (max(row[key] for row in rows) for key in ("off_exact", "off"))
    worst = max(rows, key=lambda row: row["off"])
    bare = " (adagrad: its first sum)" if group == "Adagrad/Adam class" else ""
    names = ", ".join(dict.fromkeys(row["method"].partition("[")[0] for row in rows))
    with_eps = f"{usual:.1g} with defaults ({worst['method']}, {worst['what']})"
    eps = f" without eps{bare}, {with_eps}" * (usual > 1e-6)
    return Ruling(
        graded(right and usual < 1e-6, right and exact < 1e-6),
        f"{exact:.1g} off" + f", {usual:.1g} with eps" * (usual > 1e-6),
        f"Loss and parameters times 100 and 0.01, 30 steps in float64 ({names}): the learning rate moves as said, "
        f"and paths are {exact:.1g} of their length apart{eps}.",
    )


@document.show(LAWS)
def scaling_figure(m: Any) -> Figure:
    """How far the path is off, with defaults and without eps, for each method and rescaling."""
    rates = {-1: "1/n", 0: "1", 1: "n", 2: "n^2"}
    short = [row["method"].replace("[mode=", " ").rstrip("]") for row in m]
    rows = [f"{name}, {row['what']}: {rates[row['documented']]}" for name, row in zip(short, m, strict=True)]
    usual, exact = ([max(row[key], FLOOR) for row in m] for key in ("off", "off_exact"))
    look = {"y": list(range(len(m))), "line": False, "markers": True}
    series = (Series(label="with defaults", x=usual, **look), Series(label="without eps", x=exact, **look))
    return Figure(
        name="scaling-laws",
        caption="Loss or parameters times 100 and 0.01, the learning rate moved by the law of its class: how "
        "far the path gets off in 30 float64 steps, relative to its length. kron starts from a fixed "
        "scale: its law holds once it has forgotten that.",
        panels=(
            Panel(
                title="What becomes n times as large: factor of the learning rate",
                x="largest distance between paths", y="", series=series, rows=tuple(rows), log_x=True,
                marks=(Mark(text="rounding", x=FLOOR),),
            ),
        ),
    )  # fmt: skip


@document.show(LAWS)
def scaling_table(m: Any) -> Table:
    """Every method and rescaling: the law, the measured exponent, and how far the path is off."""
    groups = {name: group for group, names in CLASSES.items() for name in names}
    rows = []
    for row in m:
        exponents = ", ".join(f"{round(exponent, 6) + 0.0:.3g}" for exponent in row["exponents"])
        law = (groups[row["method"]], row["method"], row["what"], f"n^{row['documented']}")
        rows.append((*law, exponents, f"{row['off_exact']:.1g}", f"{row['off']:.1g}"))
    return Table(
        name="scaling-laws",
        caption="How the learning rate must move when the loss or the parameters become n times what they "
        "were: the law, the exponent that the first step asks for at n = 100 and 0.01, and the largest "
        "distance between the paths of 30 float64 steps under the law, relative to their length, without "
        "eps (adagrad: without its first sum) and with defaults. kron starts from a fixed scale: its law holds "
        "once it has forgotten that.",
        header=("class", "method", "rescaled", "rate", "exponent", "off, no eps", "off, default"),
        rows=tuple(rows),
    )


@claim("every ten optimizer steps ... for the first d_warmup steps", "steps 1..20, then every 10th", CADENCE)
def product_every_ten(m: Numbers) -> Ruling:
    """Hessian-vector products are taken on the first 20 steps, then at every tenth."""
    asked = m["steps"]
    first = next((i for i, step in enumerate(asked) if step != i + 1), len(asked))
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
    right = nearest in ("absolute diagonal", "diagonal of |H|")
    return Ruling(
        graded(right and apart[nearest] < 0.05, m["diagonal"] < 0.01),
        f"the {nearest}{' of H' * (nearest == 'row norms')}",
        f"On a full 8 x 8 Hessian sqrt(D) is within {apart['row norms']:.1%} of the norms of H's rows, "
        f"{apart['diagonal of |H|']:.0%} from diag(|H|) and {apart['absolute diagonal']:.0%} from |diag(H)|; the "
        "three are equal where H is diagonal. (The second version's README says sqrt(diag(H^2)).)",
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
    reference = "Nesterov's momentum written as g + b v, over its bias correction"
    return preset(m["default is nesterov"], reference)


@claim("betas=(0.999, 0.999), nu=0.7", "quasi-hyperbolic momentum", MOMENTUM)
def quasi_hyperbolic(m: Numbers) -> Ruling:
    """betas=(0.999, 0.999) and nu=0.7 give quasi-hyperbolic momentum."""
    return preset(m["qhm"], "0.3 g + 0.7 of the average, over its bias correction")


@claim("Setting nu equal to 1 will do normal (non-Nesterov) momentum", "plain momentum", MOMENTUM)
def plain_momentum(m: Numbers) -> Ruling:
    """nu=1 is momentum without look-ahead."""
    return preset(m["nu=1 is plain momentum"], "the bias-corrected average of gradients")


def preset(apart: float, reference: str) -> Ruling:
    """Whether a preset is the momentum that it is said to be."""
    why = f"200 steps with a constant curvature in float64, against {reference} in NumPy."
    return Ruling(graded(apart < ROUNDING), f"{apart:.1g} apart", why)


@claim(
    "incorporates ... momentum ..., which considerably improves its performance",
    "better than plain ESGD",
    STUDY,
)
def momentum_helps(m: Numbers) -> Ruling:
    """Momentum considerably improves the performance over plain ESGD."""
    steps = {task: [run[name]["steps"] for name in ("esgd", PLAIN)] for task, run in m["runs"][0].items()}
    helped = [math.isfinite(ours) and ours <= CONSIDERABLE * plain for ours, plain in steps.values()]
    words = [[f"{n:.0f}" if math.isfinite(n) else "never" for n in pair] for pair in steps.values()]
    pairs = [f"{task}: {ours} and {plain}" for task, (ours, plain) in zip(steps, words, strict=True)]
    return Ruling(
        graded(all(helped), any(helped)),
        f"on {sum(helped)} of {len(steps)} tasks",
        "Steps to the main target, each at its best of nine learning rates, with momentum and without: "
        f"{', '.join(pairs)}. Considerable is a fifth fewer.",
    )


@claim("You may need to try learning rates in the range 1e-3 to 1", "0.001 to 1", STUDY)
def learning_rates(m: Numbers) -> Ruling:
    """Learning rates from 0.001 to 1 are those to try."""
    best = {task: run["esgd"]["best_rate"] for task, run in m["runs"][0].items()}
    inside = [0.001 <= rate <= 1.0 + 1e-9 for rate in best.values()]
    return Ruling(
        graded(all(inside), any(inside)),
        f"best in it on {sum(inside)} of {len(best)} tasks",
        "Of nine rates from 0.001 to 10 the best are "
        f"{', '.join(f'{rate:.2g} ({task})' for task, rate in best.items())}.",
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
