"""Does an advantage last? Losses over the number of steps, the batch size and the width.

Over the steps T, with the learning rate tuned anew at each, all optimizers share one law, and each has one speed-up:

    loss_o(T) = c + a (s_o T)^-B,   s = 1 for the one they are compared with

after arXiv:2602.07712: s_o is how many times the steps the other needs for an equal loss. Where s_o changes with T it
is s_o (T / T_0)^k_o, T_0 the geometric mean of the steps; k_o = 0 says that an advantage lasts. The steps to a target
with batches of B examples are N (1 + B_c / B), B_c the critical batch size (arXiv:1812.06162).

Both are least squares on logarithms. A seed shifts all losses of all optimizers, which share parameters and batches, so
intervals are Student's over seeds: of what each seed would move the estimate by, to first order (one seed is one
cluster of a sandwich estimate). `docs/methodology.md` has their measured coverage.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from optbench.stats import Frame
from optbench.stats.paired import half_width, log_gaps
from optbench.stats.settings import PROBLEM
from optbench.suite import WIDTHS

LEAST = 3
"""Places on an axis from which it is an axis."""
AXES = {"steps": ("steps",), "batch": ("batch",), "width": WIDTHS}
"""What a row calls each axis."""


class Axis(NamedTuple):
    """Rows of one task at one setting that differ in one number only."""

    name: str
    task: str
    """Without that number."""
    rows: Frame
    """One row for each optimizer, seed and `place` on the axis: losses and times at the best trial."""


def along(best: Frame, specs: Mapping[str, str]) -> Iterator[Axis]:
    """The axes in outcomes at the best trial; `specs` has the cell of each problem, as JSON."""
    tasks = {problem: json.loads(spec)["task"] for problem, spec in specs.items()}
    for name, fields in AXES.items():
        found: dict[str, dict[str, float]] = {}
        settings = best.drop_duplicates("problem").set_index("problem")[list(PROBLEM)]
        for problem, setting in settings.iterrows():
            given = {**tasks[str(problem)], **{k: v for k, v in setting.items() if k != "task"}}
            own = next((field for field in fields if isinstance(given.get(field), int | np.integer)), None)
            if own is None:
                continue
            place = given.pop(own)
            if name == "width":  # steps may follow the width
                given.pop("steps")
            found.setdefault(json.dumps(given, sort_keys=True, default=str), {})[str(problem)] = place
        long = {key: places for key, places in found.items() if len(set(places.values())) >= LEAST}
        for places, task in zip(long.values(), told_apart([*map(json.loads, long)]), strict=True):
            rows = best[best["problem"].isin(places)]
            rows = rows.assign(place=rows["problem"].map(places).astype(float))
            yield Axis(name, task, rows)


def told_apart(given: list[dict[str, Any]]) -> list[str]:
    """The names of tasks, each with what differs among those of its name: `transformer[mup=12]`."""
    found = []
    for one in given:
        others = [each for each in given if each["name"] == one["name"]]
        differing = [name for name in one if any(each.get(name) != one[name] for each in others)]
        words = ",".join(f"{name}={one[name]}" for name in differing)
        found.append(f"{one['name']}[{words}]" if words else one["name"])
    return found


def cube(axis: Axis, column: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Optimizers, places, and a number [optimizers, places, seeds] of those that have a finite one everywhere."""
    table = axis.rows.pivot_table(index=["optimizer", "place"], columns="seed", values=column, dropna=False)
    places = np.array(sorted(axis.rows["place"].unique()))
    names = [
        str(name)
        for name in dict.fromkeys(axis.rows["optimizer"])
        if np.isfinite(table.loc[name].reindex(places)).to_numpy().all()
    ]
    numbers = [table.loc[name].reindex(places).to_numpy() for name in names]
    return names, places, np.array(numbers).reshape(len(names), len(places), table.shape[1])


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, log: float, moves: np.ndarray) -> Estimate:
        """Of exp(log), from what each seed moves the logarithm by."""
        half = float(half_width(moves))
        return cls(*np.exp(np.clip((log, log - half, log + half), -700, 700)).tolist())  # no fit overflows


class Law(NamedTuple):
    """loss(T) = c + a (s T)^-B of several optimizers."""

    c: float
    a: float
    b: float
    speedups: list[Estimate]
    """For each optimizer; 1 for that of the law."""
    trends: list[Estimate]
    """By what a speed-up is multiplied when the steps are doubled."""
    missed: float
    """The largest distance of a mean over seeds from the law, as a share."""

    def at(self, steps: np.ndarray, speedup: float = 1.0) -> np.ndarray:
        return self.c + self.a * (speedup * steps) ** -self.b


def law(losses: np.ndarray, steps: np.ndarray, base: int = 0) -> Law:
    """The law of positive losses [optimizers, steps, seeds], and the speed-ups over the optimizer at `base`."""
    found, moves = shared_law(losses, steps, base)
    bent, bends = shared_law(losses, steps, base, found)
    others = [i for i in range(len(losses)) if i != base]
    one = Estimate(1.0, 1.0, 1.0)
    speedups, trends = [one] * len(losses), [one] * len(losses)
    for place, i in enumerate(others, 3):
        speedups[i] = Estimate.of(found[place], moves[place])
        at = place + len(others)
        trends[i] = Estimate.of(math.log(2) * bent[at], math.log(2) * bends[at])
    found_law = Law(found[0], math.exp(found[1]), found[2], speedups, trends, 0.0)
    means = np.exp(np.log(losses).mean(axis=2))
    fitted = [found_law.at(steps, each.value) for each in speedups]
    return found_law._replace(missed=float(np.abs(means / fitted - 1).max()))


def shared_law(
    losses: np.ndarray, steps: np.ndarray, base: int, straight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """c, log a, B and the log speed-ups, and what each seed moves them by, [numbers, seeds].

    From a law that was found without them also the trends of the speed-ups.
    """
    y, trend = np.log(losses), straight is not None
    others = [i for i in range(len(losses)) if i != base]
    own = np.zeros((len(losses), len(others)))
    own[others, np.arange(len(others))] = 1
    log_t = np.log(steps)
    centred = log_t - log_t.mean()

    def parts(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, log_a, b = theta[:3]
        shift = (own @ theta[3 : 3 + len(others)])[:, None] + log_t
        if trend:
            shift = shift + (own @ theta[3 + len(others) :])[:, None] * centred
        falling = np.exp(np.minimum(log_a - b * shift, 300.0))  # where the search tries what overflows
        share = falling / (c + falling)
        each = own[:, None, :] * (-b * share)[..., None]
        columns = [1 / (c + falling), share, -share * shift, *np.moveaxis(each, -1, 0)]
        if trend:
            columns += [*np.moveaxis(each * centred[:, None], -1, 0)]
        return np.log(c + falling), np.stack(columns, axis=-1)

    level, least = losses[base].mean(axis=1), losses.mean(axis=2).min()
    starts = [] if straight is None else [np.r_[straight, np.zeros(len(others))]]
    for share in (0.0, 0.5, 0.9) if straight is None else ():
        falling = np.maximum(level - share * least, 1e-12)
        slope, height = np.polyfit(log_t, np.log(falling), 1)
        starts.append(np.r_[share * least, height, max(-slope, 0.01), np.zeros(len(others))])
    return clustered(y.reshape(-1, y.shape[-1]), parts, starts, low=(0.0, -np.inf, 1e-3))


def clustered(
    y: np.ndarray,
    parts: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    starts: Sequence[np.ndarray],
    low: Sequence[float] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of y [points, seeds] on a model of the points; what each seed moves the numbers by.

    `parts` gives the model [points] and its derivatives [points, numbers], in any shape that has these sizes. Since
    every seed has every point, the fit is that of the means, and the moves of the seeds have mean 0 about it.
    """
    from scipy.optimize import least_squares

    middle = y.mean(axis=1)
    lows = np.full(len(starts[0]), -np.inf)
    lows[: len(low)] = low

    def residual(theta: np.ndarray) -> np.ndarray:
        return parts(theta)[0].ravel() - middle

    def slopes(theta: np.ndarray) -> np.ndarray:
        return parts(theta)[1].reshape(len(middle), -1)

    fits = [
        least_squares(residual, np.maximum(s, lows + 1e-12), jac=slopes, bounds=(lows, np.inf), x_scale="jac")  # pyright: ignore[reportArgumentType]
        for s in starts
    ]
    best = min(fits, key=lambda fit: fit.cost).x
    free = best > lows + 1e-9  # a number at its bound does not move
    moves = np.zeros((len(best), y.shape[1]))
    moves[free] = np.linalg.lstsq(slopes(best)[:, free], y - middle[:, None], rcond=None)[0]
    return best, moves


def critical_batch(times: np.ndarray, batches: np.ndarray) -> tuple[Estimate, Estimate]:
    """N and B_c of the steps to a target [batches, seeds]: N (1 + B_c / B)."""

    def parts(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ratio = np.exp(theta[1]) / batches
        return theta[0] + np.log1p(ratio), np.stack([np.ones_like(ratio), ratio / (1 + ratio)], axis=-1)

    y = np.log(times)
    starts = [np.array([y.mean(axis=1).min(), np.log(b)]) for b in batches[[0, -1]]]
    size, critical = map(Estimate.of, *clustered(y, parts, starts))
    return size, critical


class Change(NamedTuple):
    """Two optimizers whose order differs at two neighbouring places on an axis."""

    ahead: str
    """The one that is ahead at the first place."""
    other: str
    places: tuple[float, float]
    chance: float
    """That the order does differ: both differences drawn from their t distributions over seeds."""


def changes(axis: Axis, column: str) -> list[Change]:
    """Every change of order between neighbouring places."""
    from scipy.special import stdtr

    names, places, numbers = cube(axis, column)
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(names), 2):
        gaps = np.array([log_gaps(numbers[i, k], numbers[j, k]) for k in range(len(places))])
        means, seeds = gaps.mean(axis=1), gaps.shape[1]
        if seeds < 2:
            continue
        spread = np.maximum(gaps.std(axis=1, ddof=1) / math.sqrt(seeds), 1e-300)
        ahead = stdtr(seeds - 1, -means / spread)  # the chance that `one` has the lower number
        for k in range(len(places) - 1):
            if means[k] * means[k + 1] < 0:
                chance = ahead[k] * (1 - ahead[k + 1]) + (1 - ahead[k]) * ahead[k + 1]
                pair = (one, other) if means[k] < 0 else (other, one)
                found.append(Change(*pair, (places[k], places[k + 1]), float(chance)))
    return found


def best_rates(axis: Axis) -> Frame:
    """The learning rate that was chosen at each place, [optimizer, place]."""
    kept = axis.rows.drop_duplicates(["optimizer", "place"])
    return pd.DataFrame(kept).pivot(index="optimizer", columns="place", values="trial")
