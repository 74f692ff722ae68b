"""optax: what the docstring of `optax.novograd` says."""

import math
from typing import Any

from optbench.claim import Document, Measurement, Numbers, Ruling, Verdict, graded
from optbench.claim.plots import Figure, Mark, Panel, Series
from optbench.execute.request import Request

document = Document(
    name="novograd",
    title="optax 0.2.8: docstring of optax.novograd",
    source="https://github.com/google-deepmind/optax (0.2.8)",
    optimizers=("novograd",),
)
claim = document.claim
DOCUMENTED_TRACE = ["1.40E+01", "1.39E+01", "1.39E+01", "1.38E+01", "1.37E+01"]
EXAMPLE = Measurement.of("novograd:example", steps=5, learning_rate=0.003)
SHAPES = {"w0": [128, 64], "b0": [128], "w1": [128, 128], "b1": [128], "w2": [10, 128], "b2": [10]}
MEMORY = Measurement.of("state:floats", methods=["adam", "novograd"], shapes=SHAPES)
PLAIN = Request(task=("mlp",), opt=("adam", "novograd"))
WARMED = Request(task=("mlp",), opt=("adam", "novograd"), schedule="constant[warmup=0.1]")
RATES = Measurement.of("studies:study", PLAIN)
WARMUP = Measurement.of("studies:study", PLAIN, WARMED)
GAINS = Measurement.of(
    "training:gains", cost=15,
    problem="mlp[width=64]", steps=150, seeds=3, methods=["adam", "novograd"], rates=[0.003, 0.01, 0.03, 0.1, 0.3],
    scales=[10**e for e in (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2)],
)  # fmt: skip
TELLING = 0.25
"""Decades by which a range must be wider, half a step of the grid."""
THROUGHPUT = Measurement.of("novograd:throughput", size=512, rounds=9)
RESNET_FLOPS = 3 * 2 * 4.1e9 * 1_281_167 * 90
"""ResNet-50 on ImageNet for 90 epochs: 4.1 billion multiply-adds forwards (arXiv:1512.03385), twice that backwards."""


@claim("Objective function: 1.40E+01, 1.39E+01, ...", "1.40E+01 1.39E+01 1.39E+01 1.38E+01 1.37E+01", EXAMPLE)
def docstring_trace(m: Numbers) -> Ruling:
    """The docstring's example prints these five values."""
    same = [m[name] == DOCUMENTED_TRACE for name in ("optax", "ours")]
    return Ruling(
        graded(all(same), any(same)),
        " ".join(m["ours"]),
        "optax's method and ours print the documented digits."
        if all(same)
        else f"optax prints {' '.join(m['optax'])}.",
    )


@claim("requires half the memory compared to Adam", "half of Adam's state", MEMORY)
def half_the_memory(m: Numbers) -> Ruling:
    """NovoGrad needs half the memory of Adam."""
    adam, ours = m["floats"]["adam"], m["floats"]["novograd"]
    ratio = ours / adam
    return Ruling(
        graded(abs(ratio - 0.5) < 0.01),
        f"{ratio:.4f} of Adam's",
        f"On the digits network ({m['parameters']:,} parameters) it keeps {ours:,} numbers, n and one "
        f"for each of {m['leaves']} leaves; Adam keeps {adam:,}.",
    )


@claim("more robust to the initial learning rate", "a wider range of rates works", RATES)
def robust_to_the_rate(m: Numbers) -> Ruling:
    """NovoGrad works over a wider range of learning rates than Adam."""
    run = m["runs"][0]["mlp"]
    wide = {name: run[name]["decades"] or 0.0 for name in ("novograd", "adam")}
    at_edge = {name: ">= " * run[name]["decades_meet_edge"] for name in wide}
    gap = wide["novograd"] - wide["adam"]
    return Ruling(
        graded(gap > 0, gap == 0 and run["novograd"]["decades_meet_edge"]),
        f"{at_edge['novograd']}{wide['novograd']:.1f} decades, Adam {at_edge['adam']}{wide['adam']:.1f}",
        "Learning rates of the same nine over four decades, without warm-up, whose median of five seeds brings "
        f"the validation error of the digits network to 10%: {working(run['novograd'])} of NovoGrad, "
        f"{working(run['adam'])} of Adam.",
    )


def working(rows: dict[str, Any]) -> int:
    """How many learning rates reach the first target in the median seed."""
    return sum(math.isfinite(row["steps"]) for row in rows["rates"])


@claim("and weight initialization than other methods", "a wider range of first weights works", GAINS)
def robust_to_the_weights(m: Numbers) -> Ruling:
    """NovoGrad works over a wider range of first weights than Adam."""
    found = {name: tolerant(m, name) for name in ("novograd", "adam")}
    (ours, width), (adam, usual) = found["novograd"], found["adam"]
    return Ruling(
        graded(width > usual + TELLING),
        f"{width:.1f} decades, Adam {usual:.1f}",
        "First weights of a digits network of half the width times 0.01 to 100: the range that still reaches a "
        f"validation error of 10% in 150 steps, at the learning rate where it is widest ({m['rates'][ours]:g}; Adam "
        f"{m['rates'][adam]:g}). Less than a quarter of a decade is not told apart.",
    )


def tolerant(m: Numbers, name: str) -> tuple[int, float]:
    """The place of the learning rate at which the widest range of first weights works, and how many decades that is."""
    widths = [decades(m, name, place) for place in range(len(m["rates"]))]
    return widths.index(max(widths)), max(widths)


def decades(m: Numbers, name: str, place: int) -> float:
    """The width of the range around 1 that reaches the target at a learning rate, between scales by a line."""
    logs = [math.log10(scale) for scale in m["scales"]]
    over = [row[place] - m["target"] for row in m["final"][name]]
    middle = min(range(len(logs)), key=lambda i: abs(logs[i]))
    if over[middle] > 0:
        return 0.0
    return sum(reach(logs[middle::way], over[middle::way]) for way in (1, -1))


def reach(logs: list[float], over: list[float]) -> float:
    """How far along the logarithms the values stay below 0."""
    for i in range(1, len(logs)):
        if over[i] > 0:
            share = over[i - 1] / (over[i - 1] - over[i])
            return abs(logs[i - 1] + share * (logs[i] - logs[i - 1]) - logs[0])
    return abs(logs[-1] - logs[0])


@claim("works well without LR warm-up", "no warm-up needed", WARMUP)
def no_warmup(m: Numbers) -> Ruling:
    """NovoGrad works well without warm-up of the learning rate."""
    return warmed(m, "novograd", needs=False)


@claim("while other methods require it", "Adam needs warm-up", WARMUP)
def others_need_warmup(m: Numbers) -> Ruling:
    """Other methods require warm-up of the learning rate."""
    return warmed(m, "adam", needs=True)


def warmed(m: Numbers, name: str, needs: bool) -> Ruling:
    """Whether a method loses without warm-up: its interval without lies above that with."""
    plain, warm = (run["mlp"][name] for run in m["runs"])
    reaches = math.isfinite(plain["steps"])
    loses = plain["score"][1] > warm["score"][2]
    holds = (not reaches or loses) if needs else reaches and not loses
    return Ruling(
        graded(holds, not needs and reaches),
        f"error {percent(plain)}, warmed {percent(warm)}",
        "Median test error on the digits network at the best learning rate with its 95% interval, "
        "without and with a warm-up over the first tenth: warm-up "
        f"{'helps' if loses else 'is not needed'}. One small network.",
    )


def percent(row: dict[str, Any]) -> str:
    """`2.8% [2.5, 3.1]`."""
    middle, low, high = (100 * value for value in row["score"])
    return f"{middle:.1f}% [{low:.1f},{high:.1f}]"


@claim(
    "outperforms other methods for ResNet-50 for all batches up to 32K",
    "best at every batch size",
    THROUGHPUT,
)
def large_batches(m: Numbers) -> Ruling:
    """NovoGrad outperforms other methods on ResNet-50 for batches up to 32K."""
    days = RESNET_FLOPS / m["flops"] / 86_400
    effort = f"{days:,.0f} days" if days >= 1 else f"{24 * days:,.0f} hours"
    return Ruling(
        Verdict.UNTESTABLE,
        f"{effort} for one run",
        f"There is no ImageNet here, and one training of ResNet-50 on it takes {RESNET_FLOPS:.1e} FLOP: {effort} "
        f"at the {m['flops'] / 1e9:,.0f} GFLOP a second that a core reaches here in matrix products.",
    )


@document.show(RATES, GAINS)
def robustness_figure(study: Any, gains: Any) -> Figure:
    """Final loss against learning rate, and final error against the scale of the first weights."""
    rates, scales = [], []
    for name in ("novograd", "adam"):
        rows = study["runs"][0]["mlp"][name]["rates"]
        middle, low, high = ([row["final"][i] for row in rows] for i in range(3))
        errors = [100 * row[tolerant(gains, name)[0]] for row in gains["final"][name]]
        look = {"label": name, "optimizer": name, "markers": True}
        rates.append(Series(**look, x=[row["rate"] for row in rows], y=middle, low=low, high=high))
        scales.append(Series(**look, x=gains["scales"], y=errors))
    return Figure(
        name="novograd-robustness",
        caption="NovoGrad and Adam on the digits network: final validation loss at each learning rate, and "
        "validation error after 150 steps when the first weights are larger or smaller (half the width), at the "
        "learning rate that stands most.",
        panels=(
            Panel(
                title="Learning rate", x="learning rate", y="final validation loss", series=tuple(rates), log_x=True,
                log_y=True,
            ),
            Panel(
                title="First weights", x="times the usual size", y="validation error, %", series=tuple(scales),
                log_x=True, marks=(Mark(text="10%", y=100 * gains["target"]),),
            ),
        ),
    )  # fmt: skip
