"""A step of the optimizers of psgd_torch, in either framework; the mathematics is on their pages."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from optbench.optimizers.psgd.groups import Factors
from optbench.optimizers.psgd_dq.groups import Sample, TrackedGroup
from optbench.protocol import Noise, normals


class Held(NamedTuple):
    """The state; lists are over units."""

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    mu: list[Any] | None
    fresh: list[Any]
    """Whether a unit still waits for its first scale."""
    factors: list[Factors]


class Draws(NamedTuple):
    """What a fit draws, by name."""

    normals: Mapping[str, Any]
    chosen: Mapping[str, Any]
    """Whether each choice is taken."""


Curvature = tuple[Sequence[Any], Sequence[Any]]
"""The products and the vectors of all leaves, empty where no fit is due."""


class Frame(NamedTuple):
    group: TrackedGroup
    options: Any
    """The arguments of the factory or class, by name."""
    noise: Noise
    draws: Draws | None = None
    """Of this step, where they are made before it; else a fit makes them."""

    def first(self, unit: Any) -> Factors:
        factors, scale = self.group.init(unit, self.noise), self.options.preconditioner_init_scale
        return factors if scale is None else self.group.scaled(factors, scale)

    def due(self, step: Any) -> Any:
        """Whether whitening fits at this step."""
        probability = self.options.preconditioner_update_probability
        always = isinstance(probability, int | float) and probability == 1
        return True if always else self.chance("update_u", step, probability)

    def drawn(self, names: Sequence[str], units: Sequence[Any], step: Any) -> Draws:
        likes: dict[str, Any] = {}
        chances: dict[str, float] = {}
        for name, unit in zip(names, units, strict=True):
            likes |= {f"damping.{name}": unit, **self.group.likes(name, unit)}
            chances |= self.group.chances(name, unit)
        chosen = {name: self.chance(name, step, probability) for name, probability in chances.items()}
        return Draws(normals(self.noise, "fit", step, likes), chosen)

    def chance(self, name: str, step: Any, probability: Any) -> Any:
        return self.noise.uniform(name, step, self.group.xp.np.float32) < probability

    def step(
        self, held: Held, names: Sequence[str], grads: Sequence[Any], due: Any, curvature: Curvature | None
    ) -> tuple[list[Any], Held]:
        """The update of each leaf before decay and learning rate, and the state after it; `names` are the units'.

        `due` is whether to fit. What whitens has no `curvature`.
        """
        units = self.group.units(grads)
        held = held._replace(mu=self.averaged(held, units))
        if curvature is not None:
            held = self.curved(held, names, due, *curvature)
            updates = self.clipped_whole(self.preconditioned(held, units))
        else:
            fitted = units if self.options.whiten_grad or held.mu is None else held.mu
            held = self.scaled(held, units, None)
            after = self.whitened(held, names, due, fitted)
            first = self.options.update_preconditioner_first
            updates = self.clipped(self.preconditioned(after if first else held, units))
            held = after
        return self.group.restore(updates, grads), held._replace(count=held.count + 1)

    def averaged(self, held: Held, units: list[Any]) -> list[Any] | None:
        """The momenta: plain means until their decay is the option's."""
        if held.mu is None:
            return None
        np, mus = self.group.xp.np, []
        for m, g in zip(held.mu, units, strict=True):
            c = np.asarray(held.count, dtype=m.dtype)
            b = np.clip(c / (c + 1), max=self.options.momentum)
            mus.append(b * m + (1 - b) * g)
        return mus

    def curved(self, held: Held, names: Sequence[str], due: Any, hvps: Any, vectors: Any) -> Held:
        def fit() -> Held:
            hs, vs = self.group.units(hvps), self.group.units(vectors)
            return self.fitted(self.scaled(held, hs, vs), names, hs, vs)

        return self.group.xp.branch(due, fit, lambda: held)

    def whitened(self, held: Held, names: Sequence[str], due: Any, hs: list[Any]) -> Held:
        fit = functools.partial(self.fitted, held, names, hs)
        return fit() if due is True else self.group.xp.branch(due, fit, lambda: held)

    def scaled(self, held: Held, hs: list[Any], vs: list[Any] | None) -> Held:
        """With the first scale, for the units that wait for it."""
        if self.options.preconditioner_init_scale is not None:
            return held
        xp = self.group.xp

        def scale() -> Any:
            largest = functools.reduce(xp.np.maximum, [(h**4).mean() for h in hs])
            found = (largest + self.options.damping**4) ** (-1 / 8)
            if vs is None:
                return found
            return found * (sum((v * v).sum() for v in vs) / sum(math.prod(v.shape) for v in vs)) ** 0.25

        factors = []
        for h, fresh, each in zip(hs, held.fresh, held.factors, strict=True):
            ratio = xp.ratio_if(fresh, scale)
            factors.append(each if ratio is None else self.group.scaled(each, xp.cast(ratio, h.dtype)))
        return held._replace(fresh=[fresh & False for fresh in held.fresh], factors=factors)

    def fitted(self, held: Held, names: Sequence[str], hs: list[Any], vs: list[Any] | None = None) -> Held:
        drawn, chosen = self.drawn(names, hs, held.count) if self.draws is None else self.draws
        samples = []
        for i, (name, h) in enumerate(zip(names, hs, strict=True)):
            normal, eps = drawn[f"damping.{name}"], self.group.xp.np.finfo(h.dtype).eps
            h = h + (self.options.damping + eps * abs(h)) * normal
            samples.append(Sample(name, h, None if vs is None else vs[i], normal, drawn, chosen))
        return held._replace(factors=self.group.fit_all(held.factors, samples))

    def preconditioned(self, held: Held, units: list[Any]) -> list[Any]:
        ms = units if held.mu is None else held.mu
        return [self.group.apply(factors, m) for factors, m in zip(held.factors, ms, strict=True)]

    def clipped(self, updates: list[Any]) -> list[Any]:
        """Each unit's root mean square, then its entries."""
        np, rms, entry = self.group.xp.np, self.options.grad_clip_max_rms, self.options.grad_clip_max_entry
        if rms is not None:
            updates = [u / np.clip(np.sqrt((u * u).mean()) / rms, min=1) for u in updates]
        return updates if entry is None else [np.clip(u, -entry, entry) for u in updates]

    def clipped_whole(self, updates: list[Any]) -> list[Any]:
        limit, np = self.options.grad_clip_max_norm, self.group.xp.np
        if limit is None:
            return updates
        norm = np.sqrt(functools.reduce(np.add, [(u * u).sum() for u in updates]))
        ratio = np.clip(norm / limit, min=1)
        return [u / self.group.xp.cast(ratio, u.dtype) for u in updates]
