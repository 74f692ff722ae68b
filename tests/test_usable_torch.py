"""What a user does with a torch.optim optimizer, for every standalone optimizer in torch.

An optimizer is added with one line in STANDALONE.
"""

import copy
import io
import pickle

import pytest
import torch

from optbench.optimizers.affine.torch import Affine
from optbench.optimizers.esgd.torch import ESGD
from optbench.optimizers.expectigrad.torch import Expectigrad
from optbench.optimizers.kron.torch import Kron
from optbench.optimizers.kron.torch_kron_torch import KronTorch
from optbench.optimizers.lra.torch import LRA
from optbench.optimizers.ngc.torch import NgcAdam, NgcNag, NgcSgd
from optbench.optimizers.novograd.torch import Novograd
from optbench.optimizers.psgd_dq.torch import KronDQ, LraDQ
from optbench.optimizers.xmat.torch import XMat

torch.set_num_threads(1)

# The class, and the options that make its behaviour visible in a few steps.
STANDALONE = [
    (ESGD, {"eps": 1.0, "lr_warmup": 0.5, "d_warmup": 2, "update_d_every": 3, "weight_decay": 0.1}),
    (Expectigrad, {}),
    (NgcAdam, {}),
    (NgcNag, {}),
    (NgcSgd, {}),
    (Novograd, {"weight_decay": 0.1}),
    (Kron, {"weight_decay": 0.1}),
    (KronTorch, {"weight_decay": 0.1}),
    (XMat, {"nesterov": True}),
    (LRA, {"uvd_rank_of_approximation": 2}),
    (Affine, {"update_global_norm_clip": 10.0}),
    (KronDQ, {"dQ": "QUAD", "momentum": 0.9, "weight_decay": 0.1}),
    (LraDQ, {"rank_of_approximation": 0}),
]
each = pytest.mark.parametrize(
    ("cls", "options"), STANDALONE, ids=lambda value: getattr(value, "__name__", "")
)
pytestmark = pytest.mark.filterwarnings("ignore:Using backward:UserWarning")


def parameters(dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=rng).to(dtype).requires_grad_() for shape in ((3, 2), (2,))]


def backward(optimizer, params):
    """The gradients of a small loss, with their graph if the optimizer asks for it; the loss."""
    weight, bias = params
    loss = (torch.tanh(weight.sum(0) + bias) ** 2).sum() + 0.1 * (weight**2).sum()
    wants_graph = getattr(optimizer, "should_create_graph", lambda: False)
    optimizer.zero_grad()
    loss.backward(create_graph=wants_graph())
    return loss


def train(optimizer, params, steps):
    for _ in range(steps):
        backward(optimizer, params)
        optimizer.step()
    optimizer.zero_grad()


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@each
def test_groups_have_their_own_hyperparameters(cls, options):
    first, moves = parameters(), []
    for rates in ((0.1, 0.1), (0.1, 0.01)):
        params = parameters()
        groups = [{"params": [param], "lr": rate} for param, rate in zip(params, rates, strict=True)]
        train(cls(groups, **options), params, 1)
        moves.append([(param - start).detach() for param, start in zip(params, first, strict=True)])
    torch.testing.assert_close(moves[0][0], moves[1][0])
    torch.testing.assert_close(moves[0][1], 10 * moves[1][1], rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match=r"lr=-1\.0 is outside"):
        cls([{"params": parameters(), "lr": -1.0}])


@each
def test_a_closure_gives_the_same_bits(cls, options):
    plain, closed = parameters(), parameters()
    optimizer = cls(plain, **options)
    train(optimizer, plain, 3)
    optimizer = cls(closed, **options)
    losses = [optimizer.step(lambda: backward(optimizer, closed)).item() for _ in range(3)]
    assert same(plain, closed)
    assert losses[2] < losses[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@each
def test_a_state_saved_mid_run_goes_on_with_the_same_bits(cls, options, dtype):
    params = parameters(dtype)
    optimizer = cls(params, lr=0.05, **options)
    train(optimizer, params, 4)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = [param.detach().clone().requires_grad_() for param in params]
    loaded = cls(again, lr=0.7)
    loaded.load_state_dict(torch.load(file))
    train(optimizer, params, 4)
    train(loaded, again, 4)
    assert same(params, again)
    assert not same(params, parameters(dtype))
    assert all(torch.isfinite(param).all() and param.dtype == dtype for param in params)


@pytest.mark.parametrize(
    "copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy], ids=["pickle", "copy"]
)
@each
def test_a_copy_goes_on_with_the_same_bits(cls, options, copied):
    params = parameters()
    optimizer = cls(params, lr=0.05, **options)
    train(optimizer, params, 3)
    twin = copied(optimizer)
    others = twin.param_groups[0]["params"]
    assert others[0] is not params[0]
    train(optimizer, params, 3)
    train(twin, others, 3)
    assert same(params, others)


@each
def test_a_scheduler_moves_the_learning_rate(cls, options):
    params, by_hand = parameters(), parameters()
    optimizer, other = cls(params, lr=0.1, **options), cls(by_hand, lr=0.1, **options)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for epoch in range(3):
        other.param_groups[0]["lr"] = 0.1 * 0.5**epoch
        train(optimizer, params, 1)
        train(other, by_hand, 1)
        scheduler.step()
    assert same(params, by_hand)


@each
def test_a_missing_gradient_is_skipped(cls, options):
    params, first = parameters(), parameters()
    optimizer = cls(params, **options)
    for _ in range(2):
        backward(optimizer, params)
        params[1].grad = None
        optimizer.step()
    assert same(params[1:], first[1:])
    assert params[1] not in optimizer.state
    train(optimizer, params, 1)
    assert not same(params[1:], first[1:])


@each
def test_a_sparse_gradient_is_refused_clearly(cls, options):
    param = torch.zeros(3, requires_grad=True)
    param.grad = torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True)
    with pytest.raises(RuntimeError, match="the gradient of parameter 0 is sparse"):
        cls([param], **options).step()
