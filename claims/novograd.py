"""optax: what the docstring of `optax.novograd` says."""

import math
from statistics import median
from typing import Any

from optbench.claim import Document, Kind, Measurement, Numbers, Ruling, Verdict, graded
from optbench.claim.plots import Figure, Mark, Panel, Series
from optbench.claim.rules import Answer, beyond, decided, median_of, over_seeds, paired
from optbench.execute.request import Request
from optbench.wording import number

from . import studied

document = Document(
    name="novograd", title="optax 0.2.8: docstring of optax.novograd", optimizers=("novograd",),
    source="https://github.com/google-deepmind/optax (0.2.8)",
)  # fmt: skip
claim = document.claim
DOCUMENTED_TRACE = ["1.40E+01", "1.39E+01", "1.39E+01", "1.38E+01", "1.37E+01"]
EXAMPLE = Measurement.of("novograd:example", steps=5, learning_rate=0.003)
SHAPES = {"w0": [128, 64], "b0": [128], "w1": [128, 128], "b1": [128], "w2": [10, 128], "b2": [10]}
MEMORY = Measurement.of("state:floats", methods=["adam", "novograd"], shapes=SHAPES)
PLAIN = Request("classic", task=("mlp",), opt=("adam", "novograd"))
WARMED = Request("classic", task=("mlp",), opt=("adam", "novograd"), schedule=("constant[warmup=0.1]",))
RATES, WARMUP = studied(PLAIN), studied(PLAIN, WARMED)
GAINS = Measurement.of(
    "training:gains", cost=25, kind=Kind.TRAINING,
    problem="mlp[width=64]", steps=150, seeds=5, methods=["adam", "novograd"], rates=[0.003, 0.01, 0.03, 0.1, 0.3],
    scales=[10**e for e in (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2)],
)  # fmt: skip
RESOLVED = 0.25
"""Decades by which a range must be wider: half a step of the grid."""
NEEDED = 0.01
"""The least test error that warm-up must save, seed by seed, to be needed: one percentage point."""
BOTH = ("novograd", "adam")


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
    ours, adam = (m["runs"][0]["mlp"][name] for name in BOTH)
    wider = beyond(paired(ours["decades"], adam["decades"]), RESOLVED)
    if (adam if wider else ours)["open"]:
        wider = None  # a range that meets the edge of the grid may be wider than it
    return Ruling(
        decided(wider),
        f"{median_of(ours['decades'])} decades, Adam {median_of(adam['decades'])}",
        "The range of learning rates (nine over four decades, without warm-up) that bring the validation error of the "
        "digits network to 10%: median of five seeds with 95% interval. Wider is by over a quarter of a decade, half "
        "a step of the grid, seed by seed.",
    )


@claim("and weight initialization than other methods", "a wider range of first weights works", GAINS)
def robust_to_the_weights(m: Numbers) -> Ruling:
    """NovoGrad works over a wider range of first weights than Adam."""
    (ours, widths), (adam, usual) = (most_tolerant(m, name) for name in BOTH)
    return Ruling(
        decided(beyond(paired(widths, usual), RESOLVED)),
        f"{median_of(widths)} decades, Adam {median_of(usual)}",
        "First weights of a digits network of half the width times 0.01 to 100: the range that still reaches a "
        f"validation error of 10% in 150 steps, at the most tolerant learning rate ({m['rates'][ours]:g}; Adam "
        f"{m['rates'][adam]:g}), median of five seeds with 95% interval. Wider is by over a quarter of a decade.",
    )


def most_tolerant(m: Numbers, name: str) -> tuple[int, list[float]]:
    """The index of the learning rate with the widest range of first weights (median), and its decades for each seed."""
    seeds = range(len(m["final"][name][0][0]))
    widths = [[decades(m, name, rate, seed) for seed in seeds] for rate in range(len(m["rates"]))]
    best = max(range(len(widths)), key=lambda rate: median(widths[rate]))
    return best, widths[best]


def decades(m: Numbers, name: str, rate: int, seed: int) -> float:
    """The width of the range around 1 that reaches the target, interpolated between scales."""
    logs = [math.log10(scale) for scale in m["scales"]]
    over = [row[rate][seed] - m["target"] for row in m["final"][name]]
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
    """Whether a method needs warm-up: at its best learning rate, or at others that work with warm-up."""
    plain, warm = (run["mlp"][name] for run in m["runs"])
    tried = [(plain["best"], warm["best"]), *zip(plain["rates"], warm["rates"], strict=True)]
    best, *others = (needed(*pair) for pair in tried)
    errors = [[median_of(row["score"], percent=True) for row in pair] for pair in tried]
    pairs = zip(others, tried[1:], errors[1:], strict=True)
    rates = [f"{number(row['rate'], 2)} ({', '.join(pair)})" for need, (row, _), pair in pairs if need]
    verdict = graded(bool(best), bool(rates)) if needs else graded(not (best or rates), not best)
    if best is None and not (needs and rates):
        verdict = Verdict.INCONCLUSIVE
    return Ruling(
        verdict,
        f"error {errors[0][0]}, warmed {errors[0][1]}",
        "Median test error on the digits network at the best learning rate with 95% interval over five seeds, without "
        "and with warm-up over the first tenth. Rates where it saves over a point in every seed, or where the median "
        f"seed reaches the first target only with it: {'; '.join(rates) or 'none'}. One small network.",
    )


def needed(plain: Numbers, warm: Numbers) -> Answer:
    """Whether a learning rate that works with warm-up does not without, or with a larger error."""
    works, works_warmed = (median(row["first"]) < math.inf for row in (plain, warm))
    return works_warmed and (not works or beyond(paired(plain["score"], warm["score"]), NEEDED))


@document.show(RATES, GAINS)
def robustness_figure(study: Any, gains: Any) -> Figure:
    rates, scales = [], []
    for name in BOTH:
        rows = study["runs"][0]["mlp"][name]["rates"]
        middle, low, high = zip(*(over_seeds(row["loss"]) for row in rows), strict=True)
        errors = [100 * median(row[most_tolerant(gains, name)[0]]) for row in gains["final"][name]]
        look = {"label": name, "optimizer": name, "markers": True}
        rates.append(Series(**look, x=[row["rate"] for row in rows], y=middle, low=low, high=high))
        scales.append(Series(**look, x=gains["scales"], y=errors))
    return Figure(
        name="novograd-robustness",
        caption="NovoGrad and Adam on the digits network: final validation loss at each learning rate, and "
        "validation error after 150 steps when the first weights are larger or smaller (half the width), at the most "
        "tolerant learning rate.",
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
