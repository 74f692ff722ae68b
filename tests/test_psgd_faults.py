"""The faults of the originals that ours do not have, one test each, and the switch that brings them back."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from optbench.optimizers.affine import jax as affine_jax
from optbench.optimizers.affine import torch as affine_torch
from optbench.optimizers.kron import jax as kron_jax
from optbench.optimizers.kron import torch as kron_torch
from optbench.optimizers.kron.jax_sharding import kron_partition_specs
from optbench.optimizers.kron.torch_kron_torch import KronTorch
from optbench.optimizers.lra import jax as lra_jax
from optbench.optimizers.lra import torch as lra_torch
from optbench.optimizers.psgd.jax import hessian_helper
from optbench.optimizers.psgd.torch import hessian_helper as torch_hessian_helper
from optbench.optimizers.xmat import jax as xmat_jax
from optbench.optimizers.xmat import torch as xmat_torch

torch.set_num_threads(1)

GROUPS_JAX = [xmat_jax.xmat, lra_jax.lra, affine_jax.affine]
SLOW_JAX = [xmat_jax.xmat, pytest.param(lra_jax.lra, marks=pytest.mark.slow), affine_jax.affine]
"""A step of lra takes seconds to compile; the others have the same frame."""
GROUPS_TORCH = [xmat_torch.XMat, lra_torch.LRA, affine_torch.Affine]
ALL_TORCH = [*GROUPS_TORCH, kron_torch.Kron, KronTorch]
name_of = lambda value: getattr(value, "__name__", "")  # noqa: E731


def moved_torch(optimizer, params, grads, **curvature):
    before = [p.detach().clone() for p in params]
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad
    optimizer.step(**curvature)
    return [(p - b).detach() for p, b in zip(params, before, strict=True)]


@pytest.mark.parametrize("make", SLOW_JAX, ids=name_of)
def test_an_all_zero_first_gradient_leaves_no_trace_in_jax(make):
    params, zeros = {"p": jnp.ones(3)}, {"p": jnp.zeros(3)}
    grads = {"p": jnp.asarray([1e-3, 2e-3, -1e-3])}

    def steps(**given):
        rule = make(0.1, b1=0.0, **given)
        step = jax.jit(lambda g, state: rule.update(g, state, params))
        return step(grads, step(zeros, rule.init(params))[1])

    updates, state = steps()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    # The first scale is still taken, from the first gradient there is: the step has the size of 1.
    assert 0.01 < np.abs(updates["p"]).max() < 0.5
    assert (np.sign(updates["p"]) == -np.sign(grads["p"])).all()
    updates, _ = steps(upstream=True)
    assert not np.isfinite(updates["p"]).all()


@pytest.mark.parametrize("make", GROUPS_TORCH, ids=name_of)
def test_an_all_zero_first_gradient_leaves_no_trace_in_torch(make):
    grads = torch.tensor([1e-3, 2e-3, -1e-3])
    for upstream in (False, True):
        params = [torch.ones(3, requires_grad=True)]
        optimizer = make(params, lr=0.1, b1=0.0, upstream=upstream)
        assert upstream or not moved_torch(optimizer, params, [torch.zeros(3)])[0].any()
        if upstream:
            moved_torch(optimizer, params, [torch.zeros(3)])
        (move,) = moved_torch(optimizer, params, [grads])
        assert torch.isfinite(move).all() != upstream
        if not upstream:
            assert 0.01 < move.abs().max() < 0.5
            assert torch.equal(move.sign(), -grads.sign())


@pytest.mark.parametrize("make", SLOW_JAX, ids=name_of)
def test_a_first_hessian_step_without_update_keeps_the_first_scale_in_jax(make):
    params, vector = {"p": jnp.ones(3)}, {"p": jnp.asarray([1.0, -1.0, 1.0])}
    grads, hvp = {"p": 100 * params["p"]}, {"p": 100 * vector["p"]}

    def second(upstream):
        rule = make(1.0, b1=0.0, upstream=upstream)
        given = {"Hvp": hvp, "vector": vector}
        step = jax.jit(
            lambda state, due: rule.update(grads, state, params, update_preconditioner=due, **given)
        )
        return step(step(rule.init(params), False)[1], True)[0]["p"]

    # Scaled, the second step is Newton's up to what one fit adds; unscaled it is 100 times too long.
    ours, theirs = second(False), second(True)
    np.testing.assert_allclose(ours, -1.0, atol=0.4)
    assert np.abs(theirs).max() > 10


@pytest.mark.parametrize("make", GROUPS_TORCH, ids=name_of)
def test_a_first_hessian_step_without_update_keeps_the_first_scale_in_torch(make):
    vector, moves = torch.tensor([1.0, -1.0, 1.0]), []
    for upstream in (False, True):
        params = [torch.ones(3, requires_grad=True)]
        optimizer = make(params, lr=1.0, b1=0.0, upstream=upstream)
        moved_torch(optimizer, params, [100 * torch.ones(3)], update_preconditioner=False)
        given = {"hvp": [100 * vector], "vector": [vector], "update_preconditioner": True}
        moves.append(moved_torch(optimizer, params, [100 * torch.ones(3)], **given)[0])
    torch.testing.assert_close(moves[0], -torch.ones(3), atol=0.4, rtol=0)
    assert moves[1].abs().max() > 10


def test_float64_parameters_have_a_float64_state():
    with jax.enable_x64(True):
        params = {"p": jnp.ones((3, 2), jnp.float64)}
        for make in GROUPS_JAX:
            state = jax.eval_shape(make().init, params)
            floats = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
            assert set(floats) == {jnp.dtype("float64")}
            updates, _ = jax.eval_shape(make().update, params, state, params)
            assert updates["p"].dtype == jnp.float64
    for cls in ALL_TORCH:
        param = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
        optimizer = cls([param])
        moved_torch(optimizer, [param], [torch.ones(3, 2, dtype=torch.float64)])
        held = jax.tree.leaves(dict(optimizer.state[param]))
        assert {x.dtype for x in held if isinstance(x, torch.Tensor) and x.is_floating_point()} == {
            torch.float64
        }


DEAD = 4000
LEAVES = {"scalar": (), "vector": (3,), "matrix": (3, 2), "large": (40, 30)}


@pytest.mark.slow
def test_a_long_dead_leaf_comes_back_finite_and_useful_in_jax():
    params = {name: jnp.ones(shape) for name, shape in LEAVES.items()}
    rule = kron_jax.kron(0.1, preconditioner_update_probability=1.0)

    @jax.jit
    def run(alive_first):
        def body(state, t):
            dead = (t >= alive_first) & (t < alive_first + DEAD)
            grads = jax.tree.map(lambda p: jnp.where(dead, 0, p), params)
            updates, state = rule.update(grads, state, params)
            return state, updates

        return jax.lax.scan(body, rule.init(params), jnp.arange(DEAD + 50))

    for alive_first in (0, 20):
        state, moves = run(alive_first)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
        for name, move in moves.items():
            back = np.asarray(move)[DEAD + alive_first :]
            assert np.isfinite(move).all()
            assert (back.reshape(len(back), -1).sum(1) < 0).all(), f"{name} does not descend"
            if (
                name != "large"
            ):  # a gradient of rank one makes the step of many entries small, dead before or not
                assert 0.01 < np.abs(back[-1]).max() < 0.5


@pytest.mark.parametrize("cls", [kron_torch.Kron, KronTorch], ids=name_of)
def test_a_long_dead_leaf_comes_back_finite_and_useful_in_torch(cls):
    params = [torch.ones(shape, requires_grad=True) for shape in LEAVES.values()]
    optimizer = cls(params, lr=0.1, preconditioner_update_probability=1.0)
    optimizer.noise = OneDraw()
    for t in range(DEAD // 4):
        moved_torch(optimizer, params, [torch.full_like(p, float(t < 20)) for p in params])
    for move in moved_torch(optimizer, params, [torch.ones_like(p) for p in params]):
        assert torch.isfinite(move).all()
        assert move.sum() < 0
    for param in params:
        assert all(torch.isfinite(q).all() for q in optimizer.state[param]["Q"])


class OneDraw:
    """Noise that is always the same, to save time."""

    def normal(self, name, step, like):
        return torch.ones_like(like)

    def uniform(self, name, step, dtype=torch.float32):
        return torch.tensor(0.5, dtype=dtype)


@pytest.mark.parametrize("cls", ALL_TORCH, ids=name_of)
def test_a_0d_parameter_works_in_torch(cls):
    param = torch.tensor(2.0, requires_grad=True)
    optimizer = cls([param], lr=0.1)
    for _ in range(20):
        moved_torch(optimizer, [param], [param.detach().clone()])
    assert param.abs() < 1.5


def test_two_optimizers_share_no_noise_when_their_seeds_differ():
    params, grads = {"p": jnp.ones((2, 2))}, {"p": jnp.asarray([[1.0, 2.0], [-1.0, 0.5]])}

    def fitted(seed):
        rule = kron_jax.kron(seed=seed)
        return rule.update(grads, rule.init(params), params)[1][0]["Qs_preconditioners"]["p"][0]

    same, again, other, keyed = jax.jit(
        lambda: (fitted(1), fitted(1), fitted(2), fitted(jax.random.PRNGKey(2)))
    )()
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(same, other)
    assert not np.array_equal(same, keyed)
    moves = []
    for seed in (1, 1, 2):
        param = torch.ones(2, 2, requires_grad=True)
        optimizer = kron_torch.Kron([param], seed=seed)
        moved_torch(optimizer, [param], [torch.tensor([[1.0, 2.0], [-1.0, 0.5]])])
        moves.append(optimizer.state[param]["Q"][0])
    assert torch.equal(moves[0], moves[1])
    assert not torch.equal(moves[0], moves[2])


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"static_args=\('uvd_rank_of_approximation',\)"):
        lra_jax.lra(uvd_rank_of_approximation=jnp.asarray(3))
    with pytest.raises(ValueError, match=r"upstream='1\.0' is not True, False or one of 0\.2\.9, 0\.1\.0"):
        xmat_jax.xmat(upstream="1.0")
    with pytest.raises(ValueError, match="memory_save_mode='half'"):
        kron_torch.Kron([torch.zeros(2)], memory_save_mode="half")


def test_hessian_helper_takes_both_published_calls_and_makes_one_newton_step():
    params = {"p": jnp.asarray([1.0, 2.0, 3.0])}

    def loss_fn(params, scale=1.0):
        return scale * jnp.sum(params["p"] ** 2)

    @jax.jit
    def both(key):
        old = hessian_helper(key, loss_fn, params, (2.0,))
        new = hessian_helper(key, 0, loss_fn, params, (2.0,))
        late = hessian_helper(key, 5, loss_fn, params, preconditioner_update_probability=1e-9)
        rule = xmat_jax.xmat(1.0, b1=0.0)
        _, grads, hvp, vector, due = hessian_helper(key, 0, loss_fn, params)
        updates, _ = rule.update(
            grads, rule.init(params), params, Hvp=hvp, vector=vector, update_preconditioner=due
        )
        return old, new, late, loss_fn(optax.apply_updates(params, updates))

    old, new, late, after = both(jax.random.key(0))
    for got, want in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
        np.testing.assert_array_equal(got, want)
    loss, grads, hvp, vector, due = new
    assert (loss, due) == (28.0, True)
    np.testing.assert_allclose(grads["p"], 4 * params["p"])
    np.testing.assert_allclose(hvp["p"], 4 * vector["p"], rtol=1e-6)
    assert not late[4]
    assert not late[2]["p"].any()
    assert after < 1e-12


def test_torch_hessian_helper_makes_one_newton_step():
    param, unused = torch.tensor([1.0, 2.0, 3.0], requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = xmat_torch.XMat([param], lr=1.0, b1=0.0)
    loss, _, hvp, vector, due = torch_hessian_helper(lambda: (param**2).sum(), [param, unused])
    torch.testing.assert_close(hvp[0], 2 * vector[0])
    assert not hvp[1].any()
    optimizer.step(hvp=hvp[:1], vector=vector[:1], update_preconditioner=due)
    assert loss == 14
    assert (param**2).sum() < 1e-12
    *_, hvp, vector, due = torch_hessian_helper(
        lambda: (param**2).sum(), [param], train_step=5, preconditioner_update_probability=1e-9
    )
    assert (hvp, vector, due) == (None, None, False)


@pytest.mark.parametrize("make", [kron_jax.kron, *SLOW_JAX], ids=name_of)
def test_names_that_join_to_the_same_text_stay_apart(make):
    """psgd-jax has no names; joined with dots, these two paths are one."""
    params = {"a.b": jnp.ones(3), "a": {"b": jnp.ones((2, 2))}}
    transform = make(0.1)
    state = transform.init(params)
    updates, _ = transform.update(params, state, params)
    assert jax.tree.map(jnp.shape, updates) == {"a.b": (3,), "a": {"b": (2, 2)}}


def test_a_float16_update_of_a_large_norm_is_clipped_and_not_lost():
    """The squares of 3000 and the norm of 300 x 300 of them are above float16's range."""
    from optbench.optimizers.psgd.jax import clip_global
    from optbench.optimizers.psgd.torch import clip_global as clip_global_in_torch

    (clipped,) = clip_global([jnp.full((300, 300), 3000.0, jnp.float16)], 30.0)
    (in_torch,) = clip_global_in_torch([torch.full((300, 300), 3000.0, dtype=torch.float16)], 30.0)
    assert clipped.dtype == jnp.float16
    np.testing.assert_allclose(clipped, 0.1, rtol=1e-3)
    np.testing.assert_allclose(in_torch, 0.1, rtol=1e-3)


SMALL = 2.0**-59
"""1.7e-18; a power of two, so that nothing but the scale of a gradient changes."""
STREAM = np.random.default_rng(0).normal(size=(12, 4, 3)).astype(np.float32)


def kron_of_scale(make, scale):
    """Kron that starts where whitening a gradient of this scale ends."""
    return lambda *args, **given: make(*args, preconditioner_init_scale=scale**-0.5, **given)


@pytest.mark.parametrize("make", [*SLOW_JAX, kron_jax.kron], ids=name_of)
def test_a_gradient_of_1e_18_is_whitened_as_one_of_1_in_jax(make):
    @jax.jit
    def last(scale):
        chosen = kron_of_scale(make, scale) if make is kron_jax.kron else make
        rule, params = chosen(0.1, preconditioner_update_probability=1.0), {"p": jnp.ones((4, 3))}

        def body(state, g):
            updates, state = rule.update({"p": g}, state, params)
            return state, updates["p"]

        return jax.lax.scan(body, rule.init(params), scale * jnp.asarray(STREAM))[1]

    ordinary, small = last(1.0), last(SMALL)
    assert 0.01 < np.abs(ordinary[-1]).max() < 10
    np.testing.assert_allclose(small, ordinary, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", ALL_TORCH, ids=name_of)
def test_a_gradient_of_1e_18_is_whitened_as_one_of_1_in_torch(cls):
    def moves(scale):
        params = [torch.ones(4, 3, requires_grad=True)]
        given = (
            {}
            if cls in GROUPS_TORCH
            else {f"precond{'' if cls is KronTorch else 'itioner'}_init_scale": scale**-0.5}
        )
        optimizer = cls(params, lr=0.1, preconditioner_update_probability=1.0, **given)
        return torch.stack([moved_torch(optimizer, params, [scale * torch.tensor(g)])[0] for g in STREAM])

    ordinary = moves(1.0)
    assert 0.01 < ordinary[-1].abs().max() < 10
    torch.testing.assert_close(moves(SMALL), ordinary, rtol=1e-4, atol=1e-5)


def test_a_float16_leaf_trains_as_a_float32_one():
    """Its smallest number is 6e-5: a gradient of 0.02 is far from dead, and its square is a number in float32 only."""

    def trained(dtype):
        rule, params = kron_jax.kron(0.01), {"w": jnp.ones((4, 4), dtype), "b": jnp.ones(4, dtype)}

        def body(carry, _):
            params, state = carry
            updates, state = rule.update(
                jax.tree.map(lambda w: (0.02 * w).astype(dtype), params), state, params
            )
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(body, (params, rule.init(params)), length=100)[0][0]

    half, single = jax.jit(lambda: (trained(jnp.float16), trained(jnp.float32)))()
    for name, leaf in half.items():
        assert leaf.dtype == jnp.float16
        assert np.abs(single[name] - 1).mean() > 0.1
        np.testing.assert_allclose(leaf, single[name], atol=0.01)


STACKS = {
    "blocks": {"w": jnp.ones((2, 3, 4)), "b": jnp.ones((2, 3))},
    "head": jnp.ones((4, 3)),
    "scale": jnp.ones(()),
}
MARKS = {"blocks": {"w": True, "b": True}, "head": False, "scale": False}


def factors_of(marks, params=STACKS):
    state = kron_jax.scale_by_kron(scanned_layers=marks).init(params)
    return jax.tree.map(jnp.shape, state["Qs_preconditioners"])


def test_layers_are_matched_by_path():
    right = factors_of(MARKS)
    assert right["blocks"]["w"] == [(2, 3, 3), (2, 4, 4)]
    assert factors_of({"scale": None, "head": None, "blocks": {"b": True, "w": True}}) == right
    masked = {**STACKS, "blocks": {"w": STACKS["blocks"]["w"], "b": optax.MaskedNode()}, "head": None}
    assert factors_of(MARKS, masked)["blocks"]["w"] == right["blocks"]["w"]
    assert factors_of(MARKS, {**STACKS, "blocks": optax.MaskedNode()})["head"] == right["head"]


def test_layers_of_masked_parameters_are_trained():
    rule = optax.masked(
        kron_jax.kron(0.1, scanned_layers=MARKS), {**MARKS, "blocks": {"w": True, "b": False}}
    )
    updates, _ = rule.update(STACKS, rule.init(STACKS), STACKS)
    plain = kron_jax.kron(0.1, scanned_layers={"blocks": {"w": True}})
    only = {"blocks": {"w": STACKS["blocks"]["w"]}}
    alone, _ = plain.update(only, plain.init(only), only)
    np.testing.assert_array_equal(updates["blocks"]["w"], alone["blocks"]["w"])
    np.testing.assert_array_equal(updates["blocks"]["b"], 1)


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        (
            {"blocks": {"w": True, "c": True}, "head": False, "scale": False},
            r"says nothing of the parameter \['blocks'\]\['b'\]. Did you mean \['blocks'\]\['",
        ),
        ({**MARKS, "tail": True}, r"marks \['tail'\], which is no parameter"),
        ({**MARKS, "scale": True}, r"marks \['scale'\], which has no axis of layers"),
        ([True, True, False, False], r"says nothing of the parameter \['blocks'\]\['b'\]"),
    ],
    ids=["other name", "one more", "scalar", "list"],
)
def test_a_wrong_mark_of_layers_is_a_sentence(marks, message):
    with pytest.raises(ValueError, match=f"kron: scanned_layers {message}"):
        factors_of(marks)
    specs = jax.tree.map(lambda _: None, STACKS)
    with pytest.raises(ValueError, match=f"kron: scanned_layers {message}"):
        kron_partition_specs(STACKS, specs, scanned_layers=marks)


def test_a_scalar_in_a_group_of_layers_is_a_sentence():
    with pytest.raises(ValueError, match="kron: a group with scanned_layers=True holds a scalar"):
        kron_torch.Kron([torch.ones(())], scanned_layers=True)
