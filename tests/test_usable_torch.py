"""What a user does with a torch.optim optimizer, for every standalone optimizer in torch, beyond its conformance.

An optimizer is added with one line in STANDALONE.
"""

import copy
import io

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from optbench.optimizers.affine.torch import Affine
from optbench.optimizers.esgd.torch import ESGD
from optbench.optimizers.expectigrad.torch import Expectigrad
from optbench.optimizers.kron.torch import Kron, precond_update_prob_schedule
from optbench.optimizers.kron.torch_kron_torch import KronTorch
from optbench.optimizers.leafwise import Leafwise
from optbench.optimizers.leafwise.torch import class_of
from optbench.optimizers.lra.torch import LRA
from optbench.optimizers.ngc.torch import NgcAdam, NgcNag, NgcSgd
from optbench.optimizers.novograd.torch import Novograd
from optbench.optimizers.psgd_dq.torch import KronDQ, LraDQ
from optbench.optimizers.standard import CLASSES
from optbench.optimizers.standard import torch as standard
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


def loss_of(params):
    weight, bias = params
    return (torch.tanh(weight.sum(0) + bias) ** 2).sum() + 0.1 * (weight**2).sum()


def backward(optimizer, params):
    """The gradients of a small loss, with their graph if the optimizer asks for it; the loss."""
    loss = loss_of(params)
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
def test_a_learning_rate_that_is_a_tensor_is_read_and_never_written(cls, options):
    plain, others = parameters(), parameters()
    rate = torch.tensor(0.05)
    optimizer = cls(others, lr=rate, **options)
    train(cls(plain, lr=0.05, **options), plain, 4)
    train(optimizer, others, 4)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(0.05)
    for param, other in zip(plain, others, strict=True):
        torch.testing.assert_close(param, other)
    rate.fill_(0.0)  # as a scheduler writes it
    before = [param.detach().clone() for param in others]
    train(optimizer, others, 1)
    assert same(before, others) or cls is NgcNag  # whose momentum is not scaled


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
    ("cls", "options"),
    [
        *((cls, {"preconditioner_update_probability": "schedule"}) for cls in (Kron, KronTorch)),
        *((cls, {"precond_lr": "schedule"}) for cls in (XMat, LRA, Affine)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_state_with_our_schedule_is_loaded_as_weights_only(cls, options):
    schedule = precond_update_prob_schedule(min_prob=0.1, decay=1.0, flat_start=1)
    params = parameters()
    optimizer = cls(params, lr=0.05, **dict.fromkeys(options, schedule))
    train(optimizer, params, 4)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = [param.detach().clone().requires_grad_() for param in params]
    loaded = cls(again)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    train(optimizer, params, 4)
    train(loaded, again, 4)
    assert same(params, again)


GRAPHS = {ESGD: 3, LRA: 3, Affine: 3, LraDQ: 3}
"""With and without a product, or either side of a coin; else the first step, where averages start, and all others."""
QUICK = (Kron, XMat, Novograd, Expectigrad)


@pytest.mark.parametrize(
    ("cls", "options"),
    [pytest.param(*one, marks=[] if one[0] in QUICK else [pytest.mark.slow]) for one in STANDALONE],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # dynamo reads that of ESGD's gradients
@pytest.mark.filterwarnings(
    "ignore:Dynamo detected a call to a `functools.lru_cache`"
)  # a pure one, of shapes
def test_a_compiled_step_is_two_graphs_and_has_the_same_bits(cls, options):
    torch.compiler.reset()
    plain, others = parameters(), parameters()
    eager, other = cls(plain, lr=0.05, **options), cls(others, lr=0.05, **options)
    counter = CompileCounter()
    step = torch.compile(other.step, backend=counter)
    for _ in range(12):
        train(eager, plain, 1)
        backward(other, others)
        step()
    assert counter.frame_count <= GRAPHS.get(cls, 2)
    assert counter.op_count > 0
    assert same(plain, others)


class Model(torch.nn.Module):
    def __init__(self, params):
        super().__init__()
        self.weight, self.bias = map(torch.nn.Parameter, params)


@each
def test_a_distributed_checkpoint_goes_on_with_the_same_bits(cls, options):
    one, other = Model(parameters()), Model(parameters())
    optimizer, fresh = cls(one.named_parameters(), lr=0.05, **options), cls(other.named_parameters(), lr=0.7)
    train(optimizer, [*one.parameters()], 4)
    other.load_state_dict(one.state_dict())
    state = copy.deepcopy(get_optimizer_state_dict(one, optimizer))
    assert set(state) == {"state", "param_groups"}
    set_optimizer_state_dict(other, fresh, state)
    assert fresh.param_groups[0]["lr"] == 0.05
    for model, its in ((one, optimizer), (other, fresh)):
        train(its, [*model.parameters()], 4)
    assert same(one.parameters(), other.parameters())


SHARING = ((4, 3), (3, 2), (4, 3))


@each
def test_groups_whose_parameters_share_names_stay_apart(cls, options):
    params = [torch.linspace(0.5, 2, rows * columns).reshape(rows, columns) for rows, columns in SHARING]
    params = [param.requires_grad_() for param in params]
    optimizer = cls([{"params": [("w", param)]} for param in params], lr=0.05, **options)
    names = optimizer.names()
    assert [names[param] for param in params] == ["w", "w#1", "w#2"]
    for _ in range(3):
        optimizer.zero_grad()
        loss = sum(((param - 0.3) ** 2).sum() + param.sum() ** 2 for param in params)
        loss.backward(create_graph=getattr(optimizer, "should_create_graph", lambda: False)())
        optimizer.step()
    # What draws, draws for each of them: two of the same gradients go other ways.
    assert same(params[:1], params[2:]) != hasattr(optimizer, "noise")


LEAFWISE = [each for each in CLASSES if issubclass(each, Leafwise)]


@pytest.mark.parametrize(
    ("cls", "options"),
    [row for row in STANDALONE if row[0] is not ESGD] + [(class_of(each), {}) for each in LEAFWISE],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_gradient_may_be_written_over(cls, options):
    """As `zero_grad(set_to_none=False)` and buckets of DistributedDataParallel do."""
    plain, reused = parameters(), parameters()
    one, other = cls(plain, **options), cls(reused, **options)
    held = [torch.zeros_like(param) for param in reused]
    for _ in range(4):
        backward(one, plain)
        backward(other, reused)
        for param, memory in zip(reused, held, strict=True):
            param.grad = memory.copy_(param.grad)
        one.step()
        other.step()
    assert same(plain, reused)


@pytest.mark.parametrize("name", [each.__name__ for each in LEAFWISE if each.averages])
def test_a_step_after_eval_is_refused(name):
    params = parameters()
    optimizer = getattr(standard, name)(params)
    train(optimizer, params, 2)
    optimizer.eval()
    with pytest.raises(RuntimeError, match=r"Call train\(\)"):
        train(optimizer, params, 1)


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
def test_a_nan_in_the_gradient_is_seen_in_the_parameter(cls, options):
    params = parameters()
    optimizer = cls(params, **options)
    train(optimizer, params, 1)
    assert torch.isfinite(backward(optimizer, params))
    params[0].grad = params[0].grad * torch.tensor([[torch.nan, 1.0]] * 3)
    optimizer.step()
    assert params[0].isnan().any()


@each
def test_a_sparse_gradient_is_refused_clearly(cls, options):
    param = torch.zeros(3, requires_grad=True)
    param.grad = torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=True)
    with pytest.raises(RuntimeError, match="the gradient of parameter 0 is sparse"):
        cls([param], **options).step()
