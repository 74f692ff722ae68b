"""Expectigrad: what the README says."""

from operator import truediv
from typing import Any

from optbench.claim import Document, Kind, Measurement, Numbers, Ruling, Verdict, graded
from optbench.claim.plots import Figure, Panel, Series
from optbench.claim.rules import ROUNDING, beyond, decided, median_of, only_rounding, paired
from optbench.execute.request import Request
from optbench.wording import listed, number

from . import studied

document = Document(
    name="expectigrad", title="expectigrad 0.0.0: README", optimizers=("expectigrad",),
    source="https://github.com/brett-daley/expectigrad (e9ba829)",
)  # fmt: skip
claim = document.claim
METHODS = {"Expectigrad": "expectigrad", "Adam": "adam", "RMSProp": "rmsprop", "AMSGrad": "amsgrad"}
LOOKS = {**METHODS, "Adam (b1 0, b2 1/17)": "adam[b1=0.0]"}
"""The methods in the figure, and the optimizer whose colour and glyph each has."""
SHORT = 1 / 17
"""Adam's b2 in the counter-example for b1 = 0: 1 / (1 + C^2) with C = 4 (arXiv:1904.09237, section 3)."""


def periodic(rate: float, **options: Any) -> Measurement:
    """A periodic problem: every method at one learning rate, Adam and RMSProp forgetting fast too."""
    methods = {label: f"{name}[learning_rate={rate}]" for label, name in METHODS.items()}
    methods["Adam (b1 0, b2 1/17)"] = f"adam[learning_rate={rate},b1=0.0,b2={SHORT}]"
    methods["RMSProp (b2 1/17)"] = f"rmsprop[learning_rate={rate},b2={SHORT}]"
    methods["Expectigrad (beta 0)"] = f"expectigrad[learning_rate={rate},beta=0.0]"
    return Measurement.of("expectigrad:periodic", methods=methods, points=120, kind=Kind.TRAINING, **options)


PERIOD_3 = periodic(0.001, period=3, spike=4.0, rest=-1.0, steps=30_000)
PERIOD_101 = periodic(0.01, period=101, spike=1010.0, rest=-10.0, steps=200_000)
EQUATIONS = Measurement.of("expectigrad:equations", steps=200, size=6, seed=0)
DIVISOR = Measurement.of("expectigrad:divisor", steps=5000, seed=0)
MOMENTUM = Measurement.of("expectigrad:superposition", steps=100, size=5, seed=0)
BENCHMARK = studied(Request("classic", task=("mlp",), opt=("adam", "expectigrad")))
NOISY = studied(Request("classic", task=("quadratic_10[noise=1]",), opt=("adam", "expectigrad")))


@claim("Pseudocode: s, n, m, x", "s += g^2; n += sign(g^2); m, x", EQUATIONS)
def pseudocode(m: Numbers) -> Ruling:
    """The optimizer does what the pseudocode says."""
    return only_rounding(
        m["apart"]["beta=0.9, sparse_counter=True"],
        "200 steps in float64 on gradients of which a third is zero, against the pseudocode line by line in NumPy; an "
        "entry that never had a gradient, 0 / 0 in the pseudocode, does not move.",
    )


@claim("counter increments only where the gradient is nonzero", "only there; if False, always", EQUATIONS)
def sparse_counter(m: Numbers) -> Ruling:
    """With sparse_counter the counter increments where the gradient is not zero, without it always."""
    return only_rounding(max(m["apart"].values()), "Both settings follow the pseudocode with that counter.")


@claim("lr=0.001, beta=0.9, eps=1e-8, sparse_counter=True", "0.001, 0.9, 1e-8, True", EQUATIONS)
def defaults(m: Numbers) -> Ruling:
    """The defaults are those that the README lists."""
    return Ruling(
        graded(m["defaults"] == {"lr": 0.001, "beta": 0.9, "eps": 1e-8, "sparse_counter": True}),
        ", ".join(f"{value:g}" if value is not True else "True" for value in m["defaults"].values()),
        "The factory's signature has the same names and defaults.",
    )


@claim("beta ... in the interval [0, 1); eps ... greater than 0", "[0, 1) and (0, inf)", EQUATIONS)
def ranges(m: Numbers) -> Ruling:
    """beta must be in [0, 1) and eps greater than 0."""
    expected = {"beta=1": True, "beta=-0.1": True, "eps=0": True, "beta=0": False, "eps=1e-08": False}
    return Ruling(
        graded(m["refused"] == expected),
        f"refused: {', '.join(name for name, refuses in m['refused'].items() if refuses)}",
        "A ValueError is raised outside the ranges and not inside.",
    )


@claim("fixes the known divergence issue of Adam, RMSProp", "Adam diverges, Expectigrad does not", PERIOD_3)
def divergence(m: Numbers) -> Ruling:
    """On the periodic problem of period 3 Adam goes to the wrong end and Expectigrad does not."""
    usual = [name for name in ("Adam", "RMSProp") if name in diverging(m)]
    also = f"{listed(usual)} diverge with defaults too" if usual else "with defaults none diverges"
    task = "x in [-1, 1], gradient 4 at every third step and -1 otherwise, so -1 is best."
    return diverged(m, ("Adam (b1 0, b2 1/17)", "RMSProp (b2 1/17)"), task, f"; {also}.")


@claim("known divergence issue ... (arXiv:1904.09237)", "the same with period 101", PERIOD_101)
def divergence_101(m: Numbers) -> Ruling:
    """On the periodic problem of period 101 Adam goes to the wrong end and Expectigrad does not."""
    task = "Gradient 1010 at every 101st step and -10 otherwise, so -1 is best."
    return diverged(m, ("Adam",), task, ", with their defaults too." if "Adam" in diverging(m) else ".")


def diverging(m: Numbers) -> list[str]:
    """The methods that end nearer to the wrong end, x = 1, than to the minimum."""
    return [name for name, method in m["methods"].items() if method["end"] > 0]


def diverged(m: Numbers, documented: tuple[str, ...], task: str, rest: str) -> Ruling:
    """Whether the documented methods go to the wrong end and Expectigrad does not."""
    wrong = diverging(m)
    ours = any(name.startswith("Expectigrad") for name in wrong)
    ends = [f"{m['methods'][name]['end']:+.2f}" for name in ("Expectigrad", documented[0])]
    return Ruling(
        graded(not ours and all(name in wrong for name in documented), not ours and bool(wrong)),
        f"Expectigrad {ends[0]}, Adam {ends[1]}",
        f"{task} Wrong end: {', '.join(wrong)}{rest}",
    )


@document.show(PERIOD_3, PERIOD_101)
def divergence_figure(three: Any, hundred: Any) -> Figure:
    panels = []
    for m, title in ((three, "Period 3: 4, -1, -1"), (hundred, "Period 101: 1010, then -10")):
        series = tuple(
            Series(label=label, x=m["steps"], y=shown["path"], optimizer=LOOKS[label])
            for label, shown in m["methods"].items()
            if label in LOOKS
        )
        panels.append(Panel(title=title, x="step", y="x", series=series, limits=(-1.1, 1.1), log_x=True))
    return Figure(
        name="expectigrad-divergence",
        caption="The periodic problems of arXiv:1904.09237 on x in [-1, 1]: the gradients of a period add up "
        "to more than 0, so -1 is best. Methods that forget go to +1; Expectigrad and AMSGrad do not.",
        panels=tuple(panels),
    )


@claim("Computes the true RMS instead of an exponential moving average", "the root mean square", DIVISOR)
def arithmetic_rms(m: Numbers) -> Ruling:
    """The gradient is divided by the root of the arithmetic mean of all its squares."""
    ours, moving = m["apart"]["expectigrad"], m["apart"]["adam"]
    return Ruling(
        graded(ours < ROUNDING < moving),
        f"{number(ours, 1)} apart; Adam's {moving:.0%}",
        f"After {m['of']:,} gradients sqrt(s / n) is the root mean square of the nonzero ones.",
    )


@claim("in theory, less susceptible to gradient noise", "less noise than Adam", NOISY)
def less_noise(m: Numbers) -> Ruling:
    """Expectigrad is less susceptible to gradient noise than Adam."""
    [run] = m["runs"][0].values()
    losses = [run[name]["best"]["loss"] for name in ("expectigrad", "adam")]
    ours, adam = map(median_of, losses)
    return Ruling(
        decided(beyond(paired(losses[1], losses[0], truediv), 1.0)),
        f"loss {ours}, Adam {adam}",
        "Final loss of a 10-d quadratic under gradient noise as large as the first gradients, each method at its best "
        "of nine learning rates: median of five seeds with 95% interval. The noise of the divisor alone, measured "
        "before, is less by construction after 1 / (1 - b2) steps.",
    )


@claim("preserving the superposition property", "momentum is a sum of adapted steps", MOMENTUM)
def outer_momentum(m: Numbers) -> Ruling:
    """Momentum comes after the adaptation, so that updates superpose."""
    ours, adam = m["expectigrad"], m["adam"]
    return Ruling(
        graded(ours < ROUNDING < adam),
        f"{number(ours, 1)} off; Adam {adam:.0%}",
        "An update is the average of the steps that the method takes without momentum; Adam, which applies momentum "
        f"before the adaptation, is {adam:.0%} off on gradients that grow a hundredfold.",
    )


@claim("better performance on well-known deep learning benchmarks", "better than Adam", BENCHMARK)
def better_on_benchmarks(m: Numbers) -> Ruling:
    """Expectigrad performs better than Adam on deep-learning benchmarks."""
    errors = [m["runs"][0]["mlp"][name]["best"]["score"] for name in ("expectigrad", "adam")]
    better = beyond(paired(*reversed(errors)))
    ours, adam = (median_of(each, percent=True) for each in errors)
    return Ruling(
        Verdict.INCONCLUSIVE if better is None else graded(False, better),
        f"error {ours}, Adam {adam}",
        "The benchmarks that it names need resources not available here. Test error on the small digits network, each "
        "method at its best of nine learning rates, median of five seeds with 95% interval.",
    )
