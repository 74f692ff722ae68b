"""Made-up measurements: for each claim, numbers and the verdict that its rule must find in them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from optbench.claim import Verdict, every
from optbench.claim.session import Ledger
from optbench.claims import esgd_m, expectigrad, novograd, psgd_kron, psgd_variants

HOLDS, CONDITION, FAILS = Verdict.HOLDS, Verdict.CONDITION, Verdict.FAILS
IRREPRODUCIBLE, UNDECIDED = Verdict.IRREPRODUCIBLE, Verdict.INCONCLUSIVE
NEVER = math.inf


def schedule(**changes: Any) -> dict[str, Any]:
    curve = {"step": [100, 200], "probability": [1.0, 0.5], "rate": [1.0, 0.5]}
    counts = {key: {"500": 500, "1000": 900} for key in ("fits", "promised", "drawn")}
    base = {
        "flat_until": 500,
        "least": 0.03,
        "least_at": 4007,
        "every": {"0.5": 2, "0.25": 4},
        "curve": curve,
    }
    return {**base, **counts, **changes}


def cost(gradient: float, applied: float, fitted: float) -> dict[str, Any]:
    return {"microseconds": {"gradient": gradient, "applied": applied, "fitted": fitted}}


def factors(diagonal_layer: bool = False, one_diag: int = 0) -> dict[str, Any]:
    def of(shape: list[int], diagonal: set[int]) -> list[list[int]]:
        return [[n] if i in diagonal or len(shape) == 1 or n > 8192 else [n, n] for i, n in enumerate(shape)]

    shapes = psgd_kron.SHAPES
    largest = {leaf: max(range(len(s)), key=lambda i: (s[i], i)) for leaf, s in shapes.items()}
    usual = {leaf: of(shape, {0} if diagonal_layer else set()) for leaf, shape in shapes.items()}
    one = {leaf: of(shape, {largest[leaf] - one_diag}) for leaf, shape in shapes.items()}
    every = {leaf: of(shape, set(range(len(shape)))) for leaf, shape in shapes.items()}
    return {"None": usual, "one_diag": one, "all_diag": every}


def moved(kron: dict[str, list[float]], adam: dict[str, list[float]]) -> dict[str, Any]:
    """The losses of some settings beside a default of 1 with every seed, and of one that does harm."""
    return {
        name: {"default": [1.0] * 5, **cases, "harm=1": [3.0] * 5}
        for name, cases in (("kron", kron), ("adam", adam))
    }


HELPS, MIXED = [0.5] * 5, [0.5, 0.5, 1.0, 1.0, 1.0]
SEEDS = 5


def rates(*finals: float, width: float = 0.01, never: float = 10.0, **changes: Any) -> dict[str, Any]:
    """One optimizer at 0.001, 0.01, 0.1, ...: final values; those above `never` do not reach the first target."""
    spread = [width * (seed - SEEDS // 2) / 2 for seed in range(SEEDS)]
    rows = [
        {
            "rate": 10.0 ** (i - 3),
            "loss": [x + d for d in spread],
            "score": [0.03 + d / 10 for d in spread],
            "first": [40.0 if x < never else NEVER] * SEEDS,
            "steps": [50.0] * SEEDS,
        }
        for i, x in enumerate(finals)
    ]
    best = min(rows, key=lambda row: row["loss"][0])
    base = {
        "best": best,
        "best_rates": [best["rate"]] * SEEDS,
        "decades": [2.0] * SEEDS,
        "open": False,
        "gradients_per_step": 1.0,
        "rates": rows,
    }
    return {**base, **changes}  # fmt: skip


def study(task: str = "mlp", *more: dict[str, Any], **optimizers: dict[str, Any]) -> dict[str, Any]:
    return {"runs": [{task: optimizers}, *({task: run} for run in more)]}


def at(score: list[float], high: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    """An optimizer with these errors at its best learning rate, and with others at a higher one."""
    row = rates(0.2, 0.1, 0.3, **changes)
    for place, values in ((1, score), (2, high or score)):
        row["rates"][place] |= {"score": values}
    return row


def whitening(old: Any = None, nearest: float = 0.17, rank: float = 0.5, ten: int = 79) -> dict[str, Any]:
    steps = range(10)
    quantiles = {level: [10.0**-i for i in steps] for level in ("0", "0.025", "0.5", "0.975", "1")}
    return {
        "old": list(old or psgd_variants.RELEASED["old"]), "new": list(psgd_variants.RELEASED["new"]),
        "quantiles": quantiles, "ranks": [0.0] + [rank] * 9, "nearest": nearest, "neighbours": 0.15,
        "monotone": 1.0, "seeds": 100, "lengths": {"0": 1, "10": ten, "12": 99 - ten},
    }  # fmt: skip


def memory(n: int = 1000, **floats: int) -> dict[str, Any]:
    usual = {"adam": 2 * n, "xmat": 3 * n, "xmat[b1=0]": 2 * n, "lra": 22 * n, "lra[b1=0]": 21 * n,
             "affine": 3 * n, "affine[max_size_triangular=0]": n, "novograd": n + 2}  # fmt: skip
    return {"parameters": n, "leaves": 2, "floats": {**usual, **floats}}


def products(*seldom: float, spread: float = 0.0) -> dict[str, Any]:
    """Steps at a third of the cost, for tasks on which a step that always costs three takes 50."""
    often = rates(0.5, gradients_per_step=3.0)
    steps = [[count - spread, count, count, count, count + spread] for count in seldom]
    few = [rates(0.5, gradients_per_step=1.0) for _ in seldom]
    for row, counts in zip(few, steps, strict=True):
        row["best"]["steps"] = counts
    names = (psgd_variants.OFTEN, psgd_variants.SELDOM)
    return {"runs": [{f"task {i}": dict(zip(names, (often, row), strict=True)) for i, row in enumerate(few)}]}


def gains(ours: float, adam: float, some: int = SEEDS) -> dict[str, Any]:
    """Errors of 0 up to so many decades on either side of 1; NovoGrad's only with some of the seeds."""
    scales = [10.0**e for e in (-2, -1, 0, 1, 2)]

    def errors(scale: float, width: float, good: int) -> list[float]:
        return [0.0 if abs(math.log10(scale)) <= width * (seed < good) else 0.5 for seed in range(SEEDS)]

    final = {name: [[errors(scale, width, good)] for scale in scales]
             for name, width, good in (("novograd", ours, some), ("adam", adam, SEEDS))}  # fmt: skip
    return {"final": final, "target": 0.1, "scales": scales, "rates": [0.01]}


def periodic(wrong: tuple[str, ...]) -> dict[str, Any]:
    names = [*expectigrad.METHODS, "Adam (b1 0, b2 1/17)", "RMSProp (b2 1/17)", "Expectigrad (beta 0)"]
    ends = {name: 1.0 if name in wrong else -1.0 for name in names}
    methods = {name: {"end": end, "path": [0.0, end]} for name, end in ends.items()}
    return {"methods": methods, "steps": [1, 100], "mean": 0.5}


def equations(apart: float = 1e-16, refused: bool = True, lr: float = 0.001) -> dict[str, Any]:
    settings = (
        "beta=0.9, sparse_counter=True",
        "beta=0.9, sparse_counter=False",
        "beta=0, sparse_counter=True",
    )
    refusals = {"beta=1": refused, "beta=-0.1": True, "eps=0": True, "beta=0": False, "eps=1e-08": False}
    defaults = {"lr": lr, "beta": 0.9, "eps": 1e-8, "sparse_counter": True}
    return {"apart": dict.fromkeys(settings, apart), "defaults": defaults, "refused": refusals}


def divisor(apart: float = 0.0) -> dict[str, Any]:
    return {"apart": {"expectigrad": apart, "adam": 0.2}, "of": 40}


def laws(off: float = 1e-16, exact: float = 1e-16, exponent: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"method": name, "what": what, "documented": law, "exponents": [law + exponent] * 2, "off": off,
         "off_exact": exact}
        for group, names in esgd_m.CLASSES.items()
        for name in names
        for what, law in zip(("loss", "parameters"), esgd_m.EXPONENTS[group], strict=True)
    ]  # fmt: skip


def curvature(nearest: str, diagonal: float = 0.0) -> dict[str, Any]:
    names = ("absolute diagonal", "diagonal of |H|", "row norms")
    return {"apart": {name: 0.01 if name == nearest else 0.5 for name in names}, "diagonal": diagonal}


def esgd(*fast: float, rate: float = 0.1, spread: float = 0.0) -> dict[str, Any]:
    """Steps with momentum for tasks that take 100 without, and the best learning rate of each seed."""
    run = {}
    for i, count in enumerate(fast):
        ours = rates(0.1, best_rates=[rate] * SEEDS if not spread else [rate / 10, *[rate] * (SEEDS - 1)])
        plain = rates(0.1)
        ours["best"]["steps"] = [count - spread, count, count, count, count + spread]
        plain["best"]["steps"] = [100.0] * SEEDS
        run[f"task {i}"] = {"esgd": ours, "esgd[nu=0.0]": plain}
    return {"runs": [run]}


MOMENTA = ("default is nesterov", "nu=1 is plain momentum", "qhm")
LOW, MIDDLE, HIGH = (
    [0.020, 0.021, 0.022, 0.023, 0.024],
    [0.018, 0.022, 0.028, 0.04, 0.05],
    [0.05, 0.06, 0.07, 0.08, 0.09],
)
WIDE, EVEN, SOME = [3.0] * SEEDS, [2.0] * SEEDS, [2.0, 2.0, 2.5, 3.0, 3.0]
PLAIN = at(LOW)


def losses(ours: list[float], adam: list[float], task: str, name: str) -> dict[str, Any]:
    """Final losses of two optimizers, each at its best learning rate."""
    pair = {name: rates(0.1), "adam": rates(0.1)}
    for row, values in zip(pair.values(), (ours, adam), strict=True):
        row["best"] |= {"loss": values, "score": values}
    return {"runs": [{task: pair}]}


README = [f"{loss!r}" for loss in psgd_variants.README_TRACE]
DIGITS = novograd.DOCUMENTED_TRACE


def same(plain: dict[str, Any], warm: dict[str, Any]) -> dict[str, Any]:
    names = ("novograd", "adam")
    return study("mlp", dict.fromkeys(names, warm), **dict.fromkeys(names, plain))


def ngc(apart: float, first: float = 0.0) -> dict[str, Any]:
    return {"apart": dict.fromkeys(("adam", "nag", "sgd"), apart), "first nag step over a plain one": first}


def ngc_defaults(nag: float, adam: float = 0.001) -> dict[str, Any]:
    return {"adam": {"eta": adam, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}, "nag": {"eta": nag, "mu": 0.9},
            "sgd": {"eta": 0.001}}  # fmt: skip


CADENCE = [*range(1, 21), *range(30, 101, 10)]
CASES: dict[str, list[tuple[Any, Verdict]]] = {
    "psgd-kron.schedule-end": [(schedule(), HOLDS), (schedule(least_at=3000), FAILS), (schedule(least=0.1), FAILS)],
    "psgd-kron.schedule-flat": [(schedule(), FAILS), (schedule(flat_until=250), HOLDS)],
    "psgd-kron.update-probability": [
        (schedule(), HOLDS),
        (schedule(every={"0.7": 2, "0.5": 2}), CONDITION),
        (schedule(every={"0.7": 2, "0.5": 3}), FAILS),
    ],
    "psgd-kron.slow-start": [(cost(1, 2, 2.2), HOLDS), (cost(1, 2, 8), FAILS), (cost(1, 2, 1.5), FAILS)],
    "psgd-kron.factor-shapes": [(factors(), HOLDS), (factors(diagonal_layer=True), FAILS)],
    "psgd-kron.mostly-triangular": [(factors(), HOLDS), (factors(diagonal_layer=True), FAILS)],
    "psgd-kron.one-diag": [(factors(), HOLDS), (factors(one_diag=1), FAILS)],
    "psgd-kron.fewer-hyperparameters": [
        (moved({}, {"b1=1": HELPS}), HOLDS), (moved({"b1=1": HELPS}, {"b2=1": HELPS}), FAILS),
        (moved({"b1=1": HELPS}, {}), FAILS), (moved({}, {}), FAILS), (moved({}, {"b1=1": MIXED}), UNDECIDED),
        (moved({"b1=1": MIXED}, {"b1=1": HELPS}), UNDECIDED),
    ],
    "psgd-kron.learning-rate": [
        (study(kron=rates(1, 0.1, 1), adam=rates(1, 0.1, 1)), HOLDS),
        (study(kron=rates(0.1, 1, 1), adam=rates(1, 1, 0.1)), FAILS),
        (study(kron=rates(0.1, best_rates=[0.001, 0.01, 0.01, 0.01, 0.01]), adam=rates(1, 0.1, 1)), UNDECIDED),
    ],
    "psgd-kron.drop-in": [
        (study(kron=rates(0.1, 0.1, 1), adam=rates(1, 0.1, 1)), HOLDS),
        (study(kron=rates(0.1, 0.6, 1), adam=rates(1, 0.1, 1)), CONDITION),
        (study(kron=rates(0.5, 0.6, 1), adam=rates(1, 0.1, 1)), FAILS),
        (study(kron=rates(99, 99, 0.1), adam=rates(1, 0.1, 1)), FAILS),
        (study(kron=rates(0.5, 0.11, width=0.04), adam=rates(1, 0.1, 1)), UNDECIDED),
    ],
    "psgd-kron.contracting-axis": [({"first": 0.0, "last": 1.0}, HOLDS), ({"first": 1.0, "last": 0.0}, FAILS)],
    "psgd-kron.whitening": [
        ({"whiteness": {"kron": white}, "before": 80.0, "apart": 0.0}, verdict)
        for white, verdict in ((1.3, HOLDS), (4.0, FAILS))
    ],
    "psgd-variants.whitening-trace": [
        (whitening(), IRREPRODUCIBLE), (whitening(old=README), HOLDS), (whitening(nearest=0.0), CONDITION),
        (whitening(nearest=2.0), FAILS), (whitening(rank=0.999), FAILS),
    ],
    "psgd-variants.whitening-length": [
        (whitening(), CONDITION), (whitening(ten=99), HOLDS), (whitening(old=README[:8], ten=20), FAILS),
    ],
    "psgd-variants.hessian-trace": [
        ({"old": ["14.0", "7.460699e-14"]}, HOLDS), ({"old": ["14.0", "1.1e-13"]}, CONDITION),
        ({"old": ["14.0", "0.5"]}, FAILS),
    ],
    "psgd-variants.hessian-less-often": [
        (products(60, 50), HOLDS), (products(60, 200), CONDITION), (products(200, NEVER), FAILS),
        (products(150, 150, spread=50), UNDECIDED),
    ],
    "psgd-variants.xmat-memory": [(memory(), HOLDS), (memory(xmat=4000), CONDITION),
                                  (memory(xmat=4000, **{"xmat[b1=0]": 3000}), FAILS)],
    "psgd-variants.lra-memory": [(memory(), FAILS), (memory(lra=21_000, **{"lra[b1=0]": 20_000}), HOLDS)],
    "psgd-variants.affine-memory": [
        (memory(), CONDITION), (memory(affine=1500), HOLDS),
        (memory(**{"affine[max_size_triangular=0]": 5000}), FAILS),
    ],
    "psgd-variants.affine-like-kron": [
        ({"apart": apart}, verdict) for apart, verdict in ((0.04, HOLDS), (0.2, FAILS))
    ],
    "novograd.docstring-trace": [
        ({"optax": DIGITS, "ours": DIGITS}, HOLDS), ({"optax": DIGITS, "ours": ["1.4E+01"]}, CONDITION),
        ({"optax": ["1"], "ours": ["1"]}, FAILS),
    ],
    "novograd.half-the-memory": [(memory(), HOLDS), (memory(novograd=1500), FAILS)],
    "novograd.robust-to-the-rate": [
        (study(novograd=at(LOW, decades=WIDE), adam=at(LOW, decades=EVEN)), HOLDS),
        (study(novograd=at(LOW, decades=EVEN), adam=at(LOW, decades=EVEN)), FAILS),
        (study(novograd=at(LOW, decades=EVEN, open=True), adam=at(LOW, decades=EVEN)), UNDECIDED),
        (study(novograd=at(LOW, decades=WIDE), adam=at(LOW, decades=EVEN, open=True)), UNDECIDED),
        (study(novograd=at(LOW, decades=SOME), adam=at(LOW, decades=EVEN)), UNDECIDED),
    ],
    "novograd.robust-to-the-weights": [
        (gains(2, 1), HOLDS), (gains(1, 1), FAILS), (gains(0, 1), FAILS), (gains(2, 1, some=3), UNDECIDED),
    ],
    "novograd.no-warmup": [
        (same(PLAIN, PLAIN), HOLDS), (same(at(LOW, HIGH), PLAIN), CONDITION), (same(at(HIGH), PLAIN), FAILS),
        (same(at(MIDDLE), PLAIN), UNDECIDED), (same(at(LOW, never=0.25), PLAIN), CONDITION),
    ],
    "novograd.others-need-warmup": [
        (same(PLAIN, PLAIN), FAILS), (same(at(LOW, HIGH), PLAIN), CONDITION), (same(at(HIGH), PLAIN), HOLDS),
        (same(at(MIDDLE), PLAIN), UNDECIDED), (same(at(MIDDLE, HIGH), PLAIN), CONDITION),
        (same(at(LOW, never=0.25), PLAIN), CONDITION),
    ],
    "expectigrad.pseudocode": [(equations(), HOLDS), (equations(apart=0.1), FAILS)],
    "expectigrad.sparse-counter": [(equations(), HOLDS), (equations(apart=0.1), FAILS)],
    "expectigrad.defaults": [(equations(), HOLDS), (equations(lr=0.01), FAILS)],
    "expectigrad.ranges": [(equations(), HOLDS), (equations(refused=False), FAILS)],
    "expectigrad.divergence": [
        (periodic(("Adam (b1 0, b2 1/17)", "RMSProp (b2 1/17)")), HOLDS), (periodic(("RMSProp",)), CONDITION),
        (periodic(()), FAILS), (periodic(("Adam", "Expectigrad")), FAILS),
    ],
    "expectigrad.divergence-101": [
        (periodic(("Adam",)), HOLDS), (periodic(("RMSProp",)), CONDITION), (periodic(("Expectigrad",)), FAILS),
    ],
    "expectigrad.arithmetic-rms": [(divisor(), HOLDS), (divisor(apart=0.1), FAILS)],
    "expectigrad.less-noise": [
        (losses(low, high, "quadratic[noise=1.0]", "expectigrad"), verdict)
        for low, high, verdict in ((LOW, HIGH, HOLDS), (HIGH, LOW, FAILS), (LOW, MIDDLE, UNDECIDED))
    ],
    "expectigrad.outer-momentum": [
        ({"expectigrad": 0.0, "adam": 0.3}, HOLDS), ({"expectigrad": 0.3, "adam": 0.3}, FAILS),
    ],
    "expectigrad.better-on-benchmarks": [
        (losses(low, high, "mlp", "expectigrad"), verdict)
        for low, high, verdict in ((LOW, HIGH, CONDITION), (HIGH, LOW, FAILS), (LOW, MIDDLE, UNDECIDED))
    ],
    **{
        f"esgd-m.scaling-{name}": [(laws(), HOLDS), (laws(off=0.3), CONDITION), (laws(exponent=0.5), FAILS)]
        for name in ("sgd", "adam", "second-order")
    },
    "esgd-m.product-every-ten": [
        ({"steps": CADENCE, "of": 100}, HOLDS), ({"steps": list(range(1, 101, 10)), "of": 100}, FAILS),
    ],
    **{
        f"esgd-m.{name}": [({"gradient": 1.0, "both": both}, verdict)
                           for both, verdict in ((2.1, HOLDS), (1.5, FAILS), (3.0, FAILS))]
        for name in ("product-cost", "product-cost-torch")
    },
    "esgd-m.diagonal": [
        (curvature("row norms"), CONDITION), (curvature("diagonal of |H|"), HOLDS),
        (curvature("row norms", diagonal=0.5), FAILS),
    ],
    **{
        f"esgd-m.{name}": [(dict.fromkeys(MOMENTA, 1e-16), HOLDS), (dict.fromkeys(MOMENTA, 0.1), FAILS)]
        for name in ("nesterov", "quasi-hyperbolic", "plain-momentum")
    },
    "esgd-m.momentum-helps": [
        (esgd(50, 50), HOLDS), (esgd(50, 99), CONDITION), (esgd(99, NEVER), FAILS), (esgd(80, spread=20), UNDECIDED),
    ],
    "esgd-m.learning-rates": [
        (esgd(50), HOLDS), (esgd(50, rate=3.2), FAILS), (esgd(50, rate=3.2, spread=1), UNDECIDED),
    ],
    "esgd-m.weight-decay": [
        ({"ratio_low": 1.0, "ratio_high": 1.0}, HOLDS), ({"ratio_low": 0.5, "ratio_high": 1.0}, FAILS),
    ],
    "esgd-m.warmup": [
        ({"share": {"100": 0.634, "300": 0.951}}, HOLDS), ({"share": {"100": 1.0, "300": 1.0}}, FAILS),
    ],
    "esgd-m.create-graph": [
        ({"steps": [1, 2], "of": 9, "error": "no graph"}, HOLDS), ({"steps": [1, 2], "of": 9, "error": ""}, CONDITION),
        ({"steps": [1, 2], "of": 2, "error": ""}, FAILS),
    ],
    **{
        f"ngc-learn.{name}-equations": [(ngc(1e-16), HOLDS), (ngc(1e-7), FAILS)]
        for name in ("adam", "nag", "sgd")
    },
    "ngc-learn.nag-first-step": [(ngc(0.0), HOLDS), (ngc(0.0, first=0.9), FAILS)],
    "ngc-learn.nag-step-size": [(ngc_defaults(0.01), FAILS), (ngc_defaults(0.001), HOLDS)],
    "ngc-learn.other-defaults": [(ngc_defaults(0.01), HOLDS), (ngc_defaults(0.01, adam=0.002), FAILS)],
}  # fmt: skip

FACTS = {"cpu_seconds": 1.0, "wall_seconds": 1.0}


def make_up(folder: Path) -> None:
    """Store every measurement in a results folder: the first of the cases of a claim on it."""
    ledger = Ledger(folder)
    first = {asked.measurement.id: asked for asked in reversed(every())}
    for asked in first.values():
        ledger.write(asked.measurement, CASES[asked.name][0][0], FACTS)
