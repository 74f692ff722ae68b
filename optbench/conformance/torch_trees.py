"""Parameters and gradients that are seldom: odd shapes, no gradient, spikes, NaN, other dtypes, complex numbers."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch

from optbench.conformance import assume, problem
from optbench.conformance.problem import ODD, PAIR, Weight, apart, worded
from optbench.conformance.torch import Run, Subject, TorchObjective

CASES = {"none": "its gradient was None", "some": "it always had a gradient", "zero": "its gradient was zero"}


def moves_well(run: Run, what: str, moves: bool = True) -> None:
    """Four steps after which each leaf is finite, has its shape and dtype, and has moved."""
    kinds, first = {name: (p.dtype, p.shape) for name, p in run.params.items()}, run.numbers()
    run = run.go(4)
    last = run.numbers()
    for name, p in run.params.items():
        alike = (p.dtype, p.shape) == kinds[name]
        assert alike, f"{what}: {list(kinds[name][1])} became {p.dtype} {list(p.shape)}."
        problem.steps_well(what, first[name], last[name], moves)


def check_shapes(subject: Subject) -> str:
    for shapes in ODD:
        moves_well(subject.run(shapes), f"Parameters {worded(shapes)}")
    return f"It steps {', '.join(worded(shapes) for shapes in ODD[:-1])}, and all of them together."


def check_tied(subject: Subject) -> str:
    """One tensor under two names of a module, which its parameters have once."""
    module = torch.nn.Module()
    module.one = torch.nn.Parameter(torch.ones(3, 2))
    module.two = module.one
    rule = subject.rule()
    params: Any = dict(module.named_parameters())
    run = Run(rule, params, rule.init(params), {"one": np.ones((8, 3, 2))}, lambda name, t: 2.0)
    moves_well(run, "A tied parameter")
    return "It steps a tied parameter once."


def silent(name: str, t: int) -> float | None:
    return 1.0 if t >= 2000 or name == "some" else 0.0 if name == "zero" else None


def check_silent(subject: Subject) -> str:
    """2,000 steps on which one parameter has no gradient and one a gradient of zeros; then all have one."""
    run = subject.run(dict.fromkeys(CASES, (2, 2)), weight=silent)
    assume(
        not subject.needs_closure, "It searches along lines, where nothing is left to move after some steps."
    )
    first = run.params["none"].detach().clone()
    run = run.go(2000)
    assert torch.equal(run.params["none"], first), "A parameter [2, 2] whose gradient is None moves."
    for name, p in run.params.items():
        assert torch.isfinite(p).all(), f"A parameter [2, 2] is not finite after 2,000 steps: {CASES[name]}."
    run = run.go(5, 2000)
    for name, p in run.params.items():
        assert torch.isfinite(p).all(), (
            f"A parameter [2, 2] is not finite when its gradient returns after 2,000 steps: {CASES[name]}."
        )
    return "A gradient that is None or zero for 2,000 steps, and then returns, does no harm."


def one_step(step: int, weight: float) -> Weight:
    return lambda name, t: weight if t == step else 1.0


def check_spike(subject: Subject) -> str:
    return problem.spiked(subject.run(PAIR, weight=one_step(3, 1e6)).go(10).numbers())


def check_nan(subject: Subject) -> str:
    run = subject.run(PAIR, weight=one_step(3, math.nan)).go(6)
    return problem.survived(run.numbers(), run.go(10, 6).numbers())


def in_dtype(subject: Subject, dtype: torch.dtype) -> str:
    short = str(dtype).removeprefix("torch.")
    for shapes in ({"w": (1,)}, PAIR):
        # A loss that is small, with an entry that has no gradient: squares and eps may round to 0.
        run = subject.run(shapes, dtype, lambda name, t: 1e-3)
        # Its step may be less than the parameter's last digit.
        moves_well(run, f"In {short}, with gradients of 1e-3", moves=dtype.itemsize > 2)
    dead = subject.run({"dead": (2,), "w": (3, 2)}, dtype, lambda name, t: 0.0 if name == "dead" else 1.0)
    return problem.steps_in(short, dead.go(20).numbers(), 20, dead="dead")


check_float16 = functools.partial(in_dtype, dtype=torch.float16)
check_bfloat16 = functools.partial(in_dtype, dtype=torch.bfloat16)
check_float64 = functools.partial(in_dtype, dtype=torch.float64)


def check_complex(subject: Subject) -> str:
    """Complex parameters: as their real and imaginary parts, or alike in every direction of the plane; or refused."""
    assume(not subject.differentiates, "Its steps take more than a gradient.")
    first = torch.complex(*torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(2, 3, 2))
    least = torch.complex(*torch.linspace(2, -1, 12, dtype=torch.float64).reshape(2, 3, 2))

    def path(turn: complex, real: bool = False) -> np.ndarray:
        value, goal = (torch.view_as_real(x * turn) if real else x * turn for x in (first, least))
        params: Any = {"z": value.clone().requires_grad_()}
        rule = subject.rule()
        state = rule.init(params)
        for t in range(5):
            objective = TorchObjective(lambda p: ((p["z"] - goal).abs() ** 2).sum())
            params = rule.step(params, state, objective, t).params
        end = params["z"].detach()
        return (torch.view_as_complex(end) if real else end).numpy()

    plain = path(1)
    turned = apart({"z": path(1j)}, {"z": plain * 1j})
    parts = apart({"z": path(1, real=True)}, {"z": plain})
    return problem.in_the_plane(first.numpy(), plain, parts, turned, most=1e-9)
