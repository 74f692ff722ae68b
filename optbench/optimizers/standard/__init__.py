"""The standard methods, by optax and torch.optim. Add one: write its class in a file here, add it to `CLASSES`."""

from __future__ import annotations

from optbench.optimizer import Optimizer
from optbench.optimizers.standard import adams, adaptive, curvature, descent, divisors, free, layerwise

CLASSES: tuple[type[Optimizer], ...] = (
    descent.Momentum,
    descent.Nesterov,
    descent.SignSGD,
    descent.Signum,
    descent.Lion,
    descent.OptimisticSGD,
    descent.Rprop,
    descent.SM3,
    adaptive.Adagrad,
    adaptive.RMSprop,
    adaptive.Adadelta,
    adaptive.Adafactor,
    divisors.AMSGrad,
    divisors.Adamax,
    adams.NAdam,
    adams.RAdam,
    divisors.AdaBelief,
    divisors.Yogi,
    divisors.AcProp,
    adams.Adan,
    adams.OptimisticAdam,
    divisors.Adopt,
    adams.AdEMAMix,
    adams.SimplifiedAdEMAMix,
    layerwise.LARS,
    layerwise.LAMB,
    layerwise.Fromage,
    layerwise.Muon,
    free.PolyakSGD,
    free.Momo,
    free.MomoAdam,
    free.DoG,
    free.DoWG,
    free.Prodigy,
    free.DAdaptAdamW,
    free.ScheduleFreeSGD,
    free.ScheduleFreeAdamW,
    free.Madgrad,
    curvature.Sophia,
    curvature.LBFGS,
)
