"""What users do with a torch.optim optimizer: states, copies, groups, closures, schedulers, scalers, compilers."""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import torch

from optbench.conformance import assume
from optbench.conformance.problem import apart
from optbench.conformance.torch import Run, Subject, same

EXACT = 1e-12
"""How far apart two ways of the same arithmetic may be in float64."""
ROUNDING = 1e-5
"""And in float32: compiled steps of torch.optim take bias corrections in it."""


def goes_on(run: Run, other: Run, what: str) -> None:
    """Two runs at one point, which must give the same bits for three more steps."""
    one, two, after = run.go(3, 4), other.go(3, 4), "After 4 steps on a matrix [3, 2] and a vector [2]"
    assert all(torch.isfinite(p).all() for p in one.params.values()), "Its parameters are not finite."
    assert same(one, two), f"{after}, {what} goes on with other bits."


def begun(subject: Subject, dtype: torch.dtype = torch.float32) -> Run:
    """An optimizer of torch.optim after four steps."""
    run = subject.run(dtype=dtype)
    _ = run.optimizer
    return run.go(4)


def renewed(subject: Subject, run: Run) -> Run:
    """A new optimizer of a copy of the parameters."""
    fresh = subject.run(dtype=next(iter(run.params.values())).dtype)
    for name, p in run.params.items():
        fresh.params[name].data.copy_(p.detach())
    return fresh


def reloaded(subject: Subject, run: Run, state: Any) -> Run:
    fresh = renewed(subject, run)
    fresh.state.load_state_dict(state)
    return fresh


def check_state_dict(subject: Subject) -> str:
    run = begun(subject)
    state = run.optimizer.state_dict()
    goes_on(run, reloaded(subject, run, run.again(pickled).optimizer.state_dict()), "a loaded state_dict")
    assert set(state) >= {"state", "param_groups"}, "state_dict() has no state or no param_groups."
    return "A loaded state_dict goes on with the same bits."


def check_weights_only(subject: Subject) -> str:
    run, file = begun(subject), io.BytesIO()
    torch.save(run.optimizer.state_dict(), file)
    file.seek(0)
    try:
        state = torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise AssertionError(f"torch.load with weights_only refuses its state: {error}"[:300]) from None
    goes_on(run, reloaded(subject, run, state), "a state_dict from a file")
    return "torch.save and torch.load with weights_only go on with the same bits."


def check_bfloat16_state(subject: Subject) -> str:
    run = begun(subject, torch.bfloat16)
    fresh = reloaded(subject, run, pickled(run.optimizer.state_dict()))
    one, two = run.go(3, 4), fresh.go(3, 4)
    assert same(one, two), "With parameters in bfloat16 a loaded state_dict goes on with other bits."
    return "With parameters in bfloat16 a loaded state_dict goes on with the same bits."


def pickled(thing: Any) -> Any:
    return pickle.loads(pickle.dumps(thing))


def copied(subject: Subject, made: Callable[[Any], Any], kind: str) -> str:
    run = begun(subject)
    goes_on(run, run.again(made), f"a {kind} copy")
    return f"A {kind} copy goes on with the same bits."


check_deepcopy = functools.partial(copied, made=copy.deepcopy, kind="deep")
check_pickle = functools.partial(copied, made=pickled, kind="pickled")


def grown(subject: Subject, run: Run, steps: int) -> Run:
    """An optimizer that gets a group for each parameter but the first after some steps."""
    (name, p), *others = run.params.items()
    rule = subject.rule()
    one = run._replace(rule=rule, params={name: p}, state=rule.init({name: p})).go(steps)
    named = "param_names" in one.group
    for other, q in others:
        one.optimizer.add_param_group({"params": [(other, q)] if named else [q]})
    return one._replace(params=run.params)


def check_late_group(subject: Subject) -> str:
    """A group that is added after some steps, as when layers are unfrozen."""
    run = subject.run()
    _ = run.optimizer
    late = grown(subject, run, 3)
    _, *others = run.params.values()
    before = [q.detach().clone() for q in others]
    late = late.go(4, 3)
    for old, q in zip(before, others, strict=True):
        assert torch.isfinite(q).all(), f"A parameter {list(q.shape)} added after 3 steps is not finite."
        assert not torch.equal(q, old), f"A parameter {list(q.shape)} added after 3 steps never moves."
    loaded = grown(subject, renewed(subject, run), 0)
    loaded.optimizer.load_state_dict(pickled(late.optimizer.state_dict()))
    goes_on(late, loaded, "an optimizer with a late group")
    return "A group that is added after 3 steps moves."


def check_group_rates(subject: Subject) -> str:
    """A group whose learning rate is 0 stays while another moves."""
    run = subject.run()
    assume("lr" in run.group, "Its groups have no lr.")
    (still, p), (moving, q) = run.params.items()
    rule, named = subject.rule(), "param_names" in run.group
    own: Any = rule.init({moving: q})
    takes_groups = len(own.param_groups) == 1 and not subject.needs_closure
    assume(takes_groups, "It takes one group of parameters only.")
    own.add_param_group({"params": [(still, p)] if named else [p], "lr": 0.0})
    before = {name: x.detach().clone() for name, x in run.params.items()}
    run._replace(rule=rule, state=own).go(3)
    assert torch.equal(p, before[still]), "A group with lr=0 moves, while another has a learning rate."
    moves = not torch.equal(q, before[moving])
    assert moves, "A group with its learning rate does not move beside one with 0."
    return "Each group has its own learning rate."


def check_maximize(subject: Subject) -> str:
    down, up = subject.run(), subject.run(weight=lambda name, t: -1.0)
    assume("maximize" in down.group, "It has no option maximize.")
    for group in up.optimizer.param_groups:
        group["maximize"] = True
    alike = same(down.go(4), up.go(4))
    assert alike, "maximize of minus the loss is another path than minimizing it."
    return "maximize of minus the loss is minimizing it, to the bit."


def check_closure(subject: Subject) -> str:
    """`step(closure)` computes gradients by itself and returns the loss."""
    plain, closed = subject.run(), subject.run()
    _ = closed.optimizer
    if subject.needs_closure:
        closed.go(3)
        return "It steps by a closure."
    losses = []

    def way(optimizer: torch.optim.Optimizer, given: dict[str, Any]) -> None:
        grads = [p.grad for p in closed.params.values()]
        optimizer.zero_grad()

        def closure() -> float:
            assert torch.is_grad_enabled(), "step(closure) calls the closure with gradients off."
            for p, grad in zip(closed.params.values(), grads, strict=True):
                p.grad = grad
            return 0.25

        losses.append(optimizer.step(closure=closure, **given))

    assert same(plain.go(3), closed.go(3, way=way)), "step(closure) is another path than backward and step()."
    assert losses == [0.25] * 3, f"step(closure) returns {losses[0]!r}, not the closure's loss 0.25."
    return "step(closure) has the same bits, and returns the loss."


def check_scheduler(subject: Subject) -> str:
    run, by_hand = subject.run(), subject.run()
    assume("lr" in run.group, "Its groups have no lr.")
    rate = run.group["lr"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.5)
        for t in range(4):
            for group in by_hand.optimizer.param_groups:
                group["lr"] = rate * 0.5**t
            run, by_hand = run.go(1, t), by_hand.go(1, t)
            scheduler.step()
    alike = same(run, by_hand)
    assert alike, "Under ExponentialLR it goes another way than with the same rates written by hand."
    assert not same(run, subject.run().go(4)), "A scheduler has no effect."
    return "A scheduler moves its learning rate."


def check_tensor_rate(subject: Subject) -> str:
    """A learning rate that is a tensor, as torch.compile and capturable steps want it."""
    plain, tensor = (subject.run(dtype=torch.float64) for _ in range(2))
    assume("lr" in plain.group, "Its groups have no lr.")
    rate = torch.tensor(plain.group["lr"], dtype=torch.float64)
    value = rate.item()
    for group in tensor.optimizer.param_groups:
        group["lr"] = rate
    gap = apart(plain.go(4).numbers(), tensor.go(4).numbers())
    assert rate.item() == value, f"A learning rate that is a tensor is changed in place, to {rate.item():g}."
    assert gap < EXACT, f"lr=torch.tensor({value:g}) is {gap:.1e} from lr={value:g} after 4 steps."
    return "A learning rate may be a tensor, which stays as it is."


def check_grad_scaler(subject: Subject) -> str:
    """Gradients times a power of two, which the scaler takes off; a step whose gradients overflow is left out."""
    assume(not subject.needs_closure, "It steps by a closure, which GradScaler does not take.")
    plain, scaled = subject.run(), subject.run()
    _ = plain.optimizer
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def way(optimizer: torch.optim.Optimizer, given: dict[str, Any]) -> None:
        factor = scaler.scale(torch.tensor(1.0))
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = p.grad * factor
        scaler.step(optimizer, **given)
        scaler.update()

    plain, scaled = plain.go(3), scaled.go(3, way=way)
    assert same(plain, scaled), "With GradScaler it goes another way than with plain gradients."
    before = scaled.again()
    worse = scaled._replace(weight=lambda name, t: float("inf")).go(1, 3, way=way)
    assert same(before, worse), "GradScaler does not leave out a step whose gradients overflow."
    return "GradScaler gives the same bits, and leaves out a step that overflows."


def check_foreach(subject: Subject) -> str:
    runs = [subject.run(dtype=torch.float64) for _ in range(2)]
    assume("foreach" in runs[0].group, "It has no option foreach.")
    for run, chosen in zip(runs, (True, False), strict=True):
        for group in run.optimizer.param_groups:
            group["foreach"] = chosen
    gap = apart(*(run.go(5).numbers() for run in runs))
    assert gap < EXACT, f"foreach is {gap:.1e} from the loop after 5 steps."
    return f"foreach and the loop agree to {gap:.0e}."


def check_compile(subject: Subject) -> str:
    """torch.compile of `step` without code generation: as eager, and no graph more at each step."""
    assume(not subject.needs_closure, "It steps by a closure that is called as often as it likes.")
    eager, compiled = (subject.run() for _ in range(2))
    graphs: list[int] = []

    def backend(module: Any, inputs: Any) -> Any:
        graphs.append(len(module.graph.nodes))
        return module.forward

    torch._dynamo.reset()
    step = torch.compile(compiled.optimizer.step, backend=backend)
    counts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for t in range(5):
            compiled = compiled.go(1, t, way=lambda optimizer, given: step(**given))
            counts.append(len(graphs))
    torch._dynamo.reset()
    gap = apart(eager.go(5).numbers(), compiled.numbers())
    assert gap < ROUNDING, f"torch.compile is {gap:.1e} from eager after 5 steps in float32."
    settled = counts[-1] == counts[2]
    assert settled, f"torch.compile makes new graphs at every step: {counts} after steps 1 to 5."
    return f"torch.compile is eager, with {counts[-1]} graphs."


def check_sparse(subject: Subject) -> str:
    """A sparse gradient: the step of the dense one, or refused."""
    run = subject.run({"w": (3, 2)})
    p = run.group["params"][0]
    assume(not (subject.needs_closure or subject.differentiates), "Its steps take more than a gradient.")
    dense = run.again()
    grad = torch.zeros(3, 2)
    grad[0] = 1.0
    p.grad = grad.to_sparse(1)
    run.optimizer.step()
    other = dense.group["params"][0]
    other.grad = grad
    dense.optimizer.step()
    alike = torch.allclose(p, other, rtol=1e-5)
    assert alike, "A sparse gradient [3, 2] gives another step than the dense one."
    return "A sparse gradient gives the step of the dense one."
