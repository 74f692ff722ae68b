"""Roles of parameters: what tasks say, how parameters are grouped, and what methods do with them."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from optbench import optimizers, tasks
from optbench.optimizers.standard.jax import muon
from optbench.optimizers.standard.torch import Muon
from optbench.protocol import ROLES, Setting, role_of
from optbench.rules.roles import BY_SHAPE, param_groups, partition
from tests import parity
from tests.contract import SMALLER

SHAPES = {"head": (5, 4), "w": (4, 3), "b": (4,), "s": (), "kernel": (2, 3, 2, 2)}
RULES = {**BY_SHAPE, "head": "head", "matrix": lambda name, p: p.ndim > 1 and name != "head"}


@pytest.mark.parametrize("task", tasks.names().values(), ids=lambda task: task.label())
def test_a_task_names_parameters_that_it_has(task):
    task = task.replace(**SMALLER.get(task.name, {}))
    shapes = {name: array.shape for name, array in task.init(0).items()}
    assert set(task.roles()) <= set(shapes)
    assert set(task.roles().values()) <= set(ROLES)
    assert all(role_of(name, shape, task.roles()) in ROLES for name, shape in shapes.items())


def test_networks_have_heads_and_embeddings():
    assert tasks.parse("mlp").roles() == {"w2": "head"}
    assert tasks.parse("transformer").roles() == {"embedding": "embedding", "position": "embedding"}
    assert set(tasks.parse("resnet").roles().values()) == {"head"}


def test_every_parameter_is_in_exactly_one_group():
    params = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    labels = partition(params, RULES)
    assert labels == {"head": "head", "w": "matrix", "kernel": "matrix", "b": "vector", "s": "scalar"}
    parts = dict.fromkeys(ROLES, optax.sgd(1.0))
    optax.multi_transform(parts, labels).init(params)
    groups = param_groups(
        ((name, torch.zeros(shape)) for name, shape in SHAPES.items()), RULES, head={"lr": 3.0}
    )
    assert {group["role"]: [name for name, _ in group["params"]] for group in groups} == {
        "head": ["head"],
        "matrix": ["w", "kernel"],
        "vector": ["b"],
        "scalar": ["s"],
    }
    assert [group.get("lr") for group in groups] == [3.0, None, None, None]


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (
            {"matrix": "w|head", "vector": "b"},
            r"parameter kernel of shape \(2, 3, 2, 2\) belongs to none of matrix, vector",
        ),
        ({**BY_SHAPE, "head": "head"}, "parameter head .* belongs to matrix and head"),
    ],
)
def test_a_parameter_in_no_group_or_in_two_is_named(rules, why):
    with pytest.raises(ValueError, match=why):
        partition({name: np.zeros(shape) for name, shape in SHAPES.items()}, rules)


def test_a_head_goes_by_the_auxiliary_method():
    """A sign step of a matrix's gradient is not orthogonal, so the two cannot be mistaken."""
    grads = {"head": np.diag([1.0, 2.0, 3.0]), "w": np.diag([1.0, 2.0, 3.0])}
    first = {name: np.zeros((3, 3)) for name in grads}
    options = {"aux": "lion[weight_decay=0]", "aux_scale": 1.0, "roles": {"head": "head"}}
    rule = muon(1.0, **options)
    params = {name: jnp.asarray(value) for name, value in first.items()}
    updates, state = rule.update(
        {name: jnp.asarray(g) for name, g in grads.items()}, rule.init(params), params
    )
    np.testing.assert_allclose(updates["head"], -np.sign(grads["head"]), atol=1e-6)
    assert np.abs(np.asarray(updates["w"]) + np.eye(3)).max() < 0.35
    assert [sorted(each) for each in state.leaves] == [["m"], ["m"]]
    named = [(name, torch.tensor(value, requires_grad=True)) for name, value in first.items()]
    for name, param in named:
        param.grad = torch.tensor(grads[name])
    Muon(named, 1.0, **options).step()
    for name, param in named:
        np.testing.assert_allclose(param.detach(), updates[name], atol=1e-6)
    groups = [{"params": [named[0]], "role": "head"}, {"params": [named[1]]}]
    alone = Muon(groups, 1.0, aux=options["aux"], aux_scale=1.0)
    before = named[0][1].detach().clone()
    alone.step()
    np.testing.assert_allclose(named[0][1].detach() - before, updates["head"], atol=1e-6)


def test_roles_are_a_tree_too_and_one_that_is_none_is_named():
    params = {"net": {"head": jnp.zeros((3, 3)), "w": jnp.zeros((3, 3))}}
    labels = partition(params, {"head": ".*head", "matrix": ".*w"})
    states = [muon(1.0, roles=roles).init(params) for roles in (labels, {"net.head": "head"})]
    assert [sorted(each) for each in states[0].leaves] == [["m", "v"], ["m"]]
    assert [sorted(each) for each in states[1].leaves] == [["m", "v"], ["m"]]
    with pytest.raises(ValueError, match=r"parameter net\.head has the role 'hed'; roles are embedding"):
        muon(1.0, roles={"net.head": "hed"}).init(params)
    param = torch.nn.Parameter(torch.zeros(3, 3))
    param.grad = torch.ones(3, 3)
    with pytest.raises(ValueError, match="parameter 0 has the role 'hed'"):
        Muon([{"params": [param], "role": "hed"}]).step()
    with pytest.raises(ValueError, match=r"give it model\.named_parameters"):
        Muon([param], roles={"head": "head"})
    [group] = param_groups([("w", param)], {"no decay": "w"})
    Muon([group]).step()


def test_the_roles_of_a_task_reach_the_rule():
    declared = optimizers.parse("muon[aux=lion,aux_scale=1]").replace(learning_rate=1.0)
    for framework, xp in (("jax", jnp), ("torch", torch)):
        setting = Setting(lambda t: 1.0, parity.JaxNoise(1), 1, {"w": "head"})
        rule = getattr(declared, framework)(setting)
        params = {"w": xp.ones((3, 2))}
        if framework == "torch":
            params["w"].requires_grad_()
        objective = (parity.JaxObjective if framework == "jax" else parity.TorchObjective)(
            lambda p: p["w"].sum()
        )
        moved = rule.step(params, rule.init(params), objective, 0).params["w"]
        np.testing.assert_allclose(np.asarray(moved.tolist()), 1 - 1 - 1e-3, atol=1e-6)
