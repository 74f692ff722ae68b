"""Tasks: data, first parameters, batches, and the lint that keeps a task worth running."""

import itertools
from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch
from scipy import stats

from optbench import optimizers, tasks
from optbench.cell import Cell, Status
from optbench.stats.curves import middle
from optbench.task import permutations
from optbench.tasks import MLP, Autoencoder, NGrams, Quadratic, ResNet, Rosenbrock, Transformer, XorRNN, Zipf
from optbench.tasks.data import digits, images, text
from optbench.tasks.leaves import WAKES, Leaves
from optbench.tasks.quadratic import matrix
from tests.contract import run


def test_quadratic_has_its_condition_number_and_starts_at_one():
    for spectrum in ("log", "clustered"):
        values = np.linalg.eigvalsh(matrix(20, 1e3, spectrum, 3))
        np.testing.assert_allclose([values[0], values[-1]], [1e-3, 1.0], rtol=1e-9)
    task = Quadratic(dim=30, condition=1e4)
    a = task.data()["A"]
    for seed in range(3):
        x = task.init(seed)["x"]
        assert x @ a @ x / 2 == pytest.approx(1.0)
    assert not np.array_equal(task.init(0)["x"], task.init(1)["x"])


def test_quadratic_noise_has_the_declared_variance():
    task = Quadratic(dim=50, noise=2.0)
    z = task.draws(0, 0, 400)["z"]
    assert np.mean(np.sum(z**2, axis=1)) == pytest.approx(4.0, rel=0.05)
    np.testing.assert_array_equal(task.draws(0, 100, 120)["z"], z[100:120])


def test_leaves_sleep_as_they_say():
    task = Leaves()
    loss, data = task.jax().loss, task.data()
    table = task.draws(3, 0, WAKES + 3)
    for t in range(WAKES + 3):
        draw = {name: values[t] for name, values in table.items()}
        grads = jax.grad(loss)(task.init(3), data, draw)
        asleep = {name for name, grad in grads.items() if not grad.any()}
        assert asleep == {"dead"} | ({"late"} if t < WAKES else set())
        np.testing.assert_array_equal(grads["sparse"] != 0, (np.arange(6) + t) % 3 == 0)
    np.testing.assert_array_equal(task.draws(3, WAKES, WAKES + 3)["lit"], table["lit"][WAKES:])


def test_rosenbrock():
    """It starts at the classic point; f(-1.2, 1) = 24.2, f(1, .., 1) = 0."""
    np.testing.assert_array_equal(Rosenbrock(jitter=0.0).init(5)["x"], [-1.2, 1.0])
    assert not Rosenbrock(jitter=0.0).seeded
    assert Rosenbrock().seeded
    loss = Rosenbrock().jax().loss
    assert loss({"x": np.array([-1.2, 1.0])}, {}, {}) == pytest.approx(24.2)
    assert loss({"x": np.ones(7)}, {}, {}) == 0.0


def test_digits_split_is_stratified_and_disjoint():
    parts = digits.splits()
    counts = {name: np.bincount(parts[f"{name}_y"]) for name in ("train", "validation", "test")}
    assert sum(map(np.sum, counts.values())) == 1797
    total = sum(counts.values())
    assert np.all(np.abs(counts["train"] / total - 0.6) < 0.01)
    assert np.all(np.abs(counts["test"] / total - 0.2) < 0.01)
    rows = {tuple(row) for row in parts["train_x"]}
    assert not any(tuple(row) in rows for row in parts["test_x"])


def test_batches_are_permutations_of_each_epoch():
    rows = permutations(0, 0, 16, 1078, 128)
    assert rows.shape == (16, 128)
    for epoch in (rows[:8], rows[8:]):
        assert len(np.unique(epoch)) == 8 * 128
    np.testing.assert_array_equal(permutations(0, 5, 12, 1078, 128), rows[5:12])
    assert not np.array_equal(rows, permutations(1, 0, 16, 1078, 128))


SMALL = [
    Quadratic(dim=12, noise=0.5),
    Rosenbrock(dim=6),
    MLP(width=16),
    MLP(layers=0),
    ResNet(width=4, batch=16),
    Transformer(d_model=16, heads=2, layers=1, context=12, batch=4),
    Autoencoder(width=32),
    XorRNN(length=10, units=8),
]
OTHERS = [
    ResNet(depth=14, width=6, groups=2, batch=16, augment=False),
    Transformer(d_model=24, heads=3, layers=2, context=20, batch=4),
    XorRNN(length=33, units=12),
    *(each for name, each in tasks.names().items() if not each.toy),
]
SLOW = ("resnet", "transformer")
each_task = pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=[pytest.mark.slow] * (task in OTHERS or task.name in SLOW))
        for task in [*SMALL, *OTHERS]
    ],
    ids=[task.label() for task in [*SMALL, *OTHERS]],
)
"""Networks that compile for long are marked slow."""


class Start(NamedTuple):
    """A task at its first parameters: what both frameworks are given."""

    params: dict[str, np.ndarray]
    data: dict[str, np.ndarray]
    draw: dict[str, np.ndarray]

    @classmethod
    def of(cls, task, dtype):
        draw = {key: table[0] for key, table in task.draws(0, 0, 1).items()}
        return cls(
            *(
                {
                    key: array.astype(dtype) if array.dtype.kind == "f" else array
                    for key, array in tree.items()
                }
                for tree in (task.init(0), task.data(), draw)
            )
        )


def compiled(task):
    """Loss and gradient in JAX; of the same task it comes from the cache of compiled programs."""
    import jax

    return jax.jit(jax.value_and_grad(task.jax().loss)).lower(*Start.of(task, np.float32)).compile()


def tensors(tree, leaves=False):
    """The same arrays in torch, whole numbers as the engine gives them."""
    import torch

    whole = {True: torch.int64, False: None}
    return {
        key: torch.tensor(array, dtype=whole[array.dtype.kind in "iu"], requires_grad=leaves)
        for key, array in tree.items()
    }


def close(got, want, tolerance):
    """Each array relative to its largest number."""
    for name, array in want.items():
        scale = np.abs(array).max() or 1.0
        np.testing.assert_allclose(
            np.asarray(got[name]) / scale, np.asarray(array) / scale, atol=tolerance, err_msg=name
        )


@each_task
def test_both_frameworks_agree(task):
    """Loss within 1e-6, gradient within 1e-5, evaluation within 1e-5 (float32), from the same NumPy parameters."""
    import jax
    import torch

    torch.set_num_threads(1)
    start = Start.of(task, np.float32)
    ours, theirs = task.jax(), task.torch()
    value, grads = compiled(task)(*start)
    leaves, data, draw = tensors(start.params, leaves=True), tensors(start.data), tensors(start.draw)
    loss = theirs.loss(leaves, data, draw)
    loss.backward()
    assert loss.item() == pytest.approx(float(value), rel=1e-6)
    close({name: leaf.grad.numpy() for name, leaf in leaves.items()}, grads, 1e-5)
    with torch.no_grad():
        found = theirs.evaluate(leaves, data)
    expected = jax.jit(ours.evaluate)(start.params, start.data)
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        assert found[name].item() == pytest.approx(float(each), rel=1e-5, abs=1e-6), name


@each_task
def test_a_hessian_vector_product_is_the_derivative_of_the_gradient(task):
    """Through every task, in both frameworks as their engines compute it, against a difference of gradients."""
    import jax

    from optbench.engines.jax_program import JaxObjective
    from optbench.engines.torch_eager import TorchObjective

    with jax.enable_x64(True):
        start = jax.tree.map(jax.numpy.asarray, Start.of(task, np.float64))
        rng = np.random.default_rng(1)
        vector = {name: rng.standard_normal(array.shape) for name, array in start.params.items()}
        objective = JaxObjective(lambda params: task.jax().loss(params, start.data, start.draw))
        _, grads, products = jax.jit(objective.value_grad_hvp)(start.params, vector)
        gradient = jax.jit(jax.grad(objective.value))
        step = 1e-6
        ahead, behind = (
            gradient({name: array + sign * step * vector[name] for name, array in start.params.items()})
            for sign in (1, -1)
        )
        # Outside of this context float64 is float32 to JAX.
        grads, products, ahead, behind = jax.device_get((grads, products, ahead, behind))
    smooth = not isinstance(task, MLP | ResNet)  # a step may cross the kink of a ReLU
    differences = {name: (ahead[name] - behind[name]) / (2 * step) for name in ahead}
    close(products, differences, 1e-6 if smooth else 1e-2)
    leaves, data, draw = tensors(start.params, leaves=True), tensors(start.data), tensors(start.draw)
    other = TorchObjective(lambda params: task.torch().loss(params, data, draw))
    _, their_grads, theirs = other.value_grad_hvp(leaves, tensors(vector))
    close({name: grad.numpy() for name, grad in their_grads.items()}, grads, 1e-10)
    close({name: product.numpy() for name, product in theirs.items()}, products, 1e-9)


@each_task
def test_draws_are_pure_in_seed_and_step(task):
    """A run that goes on from step 5 sees what it would have seen; another seed sees something else."""
    whole, rest, other = task.draws(0, 0, 12), task.draws(0, 5, 12), task.draws(1, 0, 12)
    for name, table in whole.items():
        assert len(table) == 12
        np.testing.assert_array_equal(rest[name], table[5:])
    assert not whole or any(not np.array_equal(table, other[name]) for name, table in whole.items())
    first = [task.init(seed) for seed in (0, 0, 1)]
    for name, array in first[0].items():
        np.testing.assert_array_equal(array, first[1][name])
    assert any(not np.array_equal(array, first[2][name]) for name, array in first[0].items())


@each_task
def test_what_a_task_says_of_its_size(task):
    """Counts are those of what it draws; what a gradient keeps alive is roughly what XLA reserves for one."""
    import jax

    start = Start.of(task, np.float32)
    seen = 0 if task.toy else len(next(iter(start.draw.values())))
    assert task.examples() == seen * getattr(task, "context", 1)
    if task.toy:
        return
    reserved = compiled(task).memory_analysis().temp_size_in_bytes
    assert 0.3 < 4 * task.working_floats() / reserved < 4, f"of {reserved} bytes reserved"
    if task.name != "xor_rnn":  # of a loop XLA counts one turn
        counted = jax.jit(jax.grad(task.jax().loss)).lower(*start).cost_analysis()["flops"]
        assert 0.4 < task.flops() / counted < 2, f"{task.flops():.3g} declared, {counted:.3g} counted by XLA"


# --- resnet --------------------------------------------------------------------------------------------------


def test_resnet_layers_are_those_of_the_paper():
    """6 n + 2 layers with weights; He et al.'s ResNet-20 has 0.27 million parameters."""
    for depth in (8, 14, 20):
        task = ResNet(depth=depth, dataset="cifar10")
        assert sum(map(len, task.layers())) + 1 == depth
    count = sum(array.size for array in ResNet(depth=20, width=16, dataset="cifar10").init(0).values())
    assert round(count / 1e6, 2) == 0.27


def test_resnet_convolves_only_where_maps_are_large():
    """In a compiled loop on CPU XLA's convolution is many times slower: on digits there must be none."""
    import jax

    assert not ResNet().convolves
    assert ResNet(dataset="mnist").convolves
    assert ResNet(dataset="cifar10").convolves
    task = ResNet(width=4, batch=4)
    start = Start.of(task, np.float32)
    for function in (jax.grad(task.jax().loss), lambda params, data, draw: task.jax().evaluate(params, data)):
        assert "conv_general_dilated" not in str(jax.make_jaxpr(function)(*start))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 7, 2, 1])
def test_unfolding_is_a_convolution(size, stride):
    from optbench.tasks.residual import convolution, unfolded

    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((3, size, size, 5)), rng.standard_normal((4, 5, 3, 3))
    got = unfolded(x.transpose(3, 1, 2, 0), weights, stride).transpose(3, 1, 2, 0)
    want = convolution(x, weights, stride)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_what_is_said_of_an_image_depends_on_no_other():
    """Group normalisation: the loss of a batch belongs to the parameters and its rows, and falls apart by rows."""
    import jax

    from optbench.tasks.residual import jax_logits

    task = ResNet(width=4, batch=4)
    params = Start.of(task, np.float32).params
    x = np.random.default_rng(0).standard_normal((4, 1, 8, 8), dtype=np.float32)
    logits = jax.jit(lambda x: jax_logits(task.layers(), task.groups, params, x, convolve=False))
    other = np.concatenate([x[:1], 10 * x[:0:-1]])
    np.testing.assert_allclose(logits(x)[0], logits(other)[0], rtol=1e-6)


def test_augmentation_moves_and_mirrors_as_drawn():
    """All corners of the rim occur; digits are never mirrored; what is cut out at the middle is the image."""
    import jax

    draws = ResNet().draws(0, 0, 50)
    corners = {tuple(corner) for corner in draws["corner"].reshape(-1, 2)}
    assert corners == set(itertools.product(range(3), repeat=2))
    assert not draws["mirrored"].any()
    assert images.KINDS["cifar10"].flips
    task = ResNet(width=4, batch=3)
    start = Start.of(task, np.float32)
    still = {**start.draw, "corner": np.ones((3, 2), np.int32), "mirrored": np.zeros(3, np.uint8)}
    plain, loss = task.replace(augment=False), jax.jit(task.jax().loss)
    same = jax.jit(plain.jax().loss)(start.params, Start.of(plain, np.float32).data, start.draw)
    assert float(loss(start.params, start.data, still)) == pytest.approx(float(same), rel=1e-6)
    mirrored = {**still, "mirrored": np.ones(3, np.uint8)}
    turned = {**start.data, "rimmed": start.data["rimmed"][..., ::-1].copy()}
    assert loss(start.params, start.data, mirrored) == loss(start.params, turned, still)
    assert float(loss(start.params, start.data, mirrored)) != pytest.approx(float(same), rel=1e-3)


def test_evaluated_images_are_apart():
    """Evaluation sees training images without their rim, and no part sees another's."""
    data = ResNet().data()
    assert data["rimmed"].shape[1:] == (1, 10, 10)
    assert data["train_x"].shape[1:] == (1, 8, 8)
    np.testing.assert_array_equal(data["rimmed"][: len(data["train_x"]), :, 1:-1, 1:-1], data["train_x"])
    assert not data["rimmed"][:, :, 0].any()


# --- transformer ---------------------------------------------------------------------------------------------


def test_a_transformer_sees_the_past_only():
    """Changing a token changes no logit before it."""
    from optbench.tasks.transformer import jax_logits

    task = Transformer(d_model=16, heads=2, context=8, batch=1)
    start = Start.of(task, np.float32)
    tokens = np.arange(8)[None]
    changed = np.where(np.arange(8) == 5, 50, tokens)
    one, other = (np.asarray(jax_logits(task, start.params, each)) for each in (tokens, changed))
    np.testing.assert_array_equal(one[:5], other[:5])
    assert np.all(np.abs(one[5:] - other[5:]).max(axis=1) > 1e-3)


def test_a_step_of_signs_moves_the_logits_alike_at_every_width_under_mup():
    """A step of Adam is one of signs at first; by the standard rules it moves wider networks farther."""
    import jax
    import jax.numpy as jnp

    from optbench.tasks.transformer import jax_logits

    tokens = np.arange(64).reshape(2, 32) % 50

    def moved(width: int, mup: int) -> float:
        task = Transformer(d_model=width, heads=2, layers=1, context=32, batch=2, mup=mup)
        params = Start.of(task, np.float32).params

        def logits(params):
            return jax_logits(task, params, tokens)

        def loss(params):
            return -jax.nn.log_softmax(logits(params))[:, 7].mean()

        @jax.jit
        def change(params):
            grads = jax.grad(loss)(params)
            after = {name: p - 1e-4 * jnp.sign(grads[name]) for name, p in params.items()}
            return jnp.sqrt(jnp.mean((logits(after) - logits(params)) ** 2))

        return float(change(params))

    plain, ruled = ([moved(width, mup) for width in (64, 256)] for mup in (0, 64))
    assert ruled[0] == plain[0]
    assert plain[1] / plain[0] > 4
    assert 0.6 < ruled[1] / ruled[0] < 1.6


def test_windows_are_the_text():
    task = Transformer(context=10, batch=32)
    start = Start.of(task, np.float32)
    tokens = text.load("pydoc").parts()
    np.testing.assert_array_equal(start.data["tokens"], tokens["train"])
    np.testing.assert_array_equal(start.data["validation"][:, :-1].ravel(), tokens["validation"][:6700])
    np.testing.assert_array_equal(start.data["test"][:, 1:].ravel(), tokens["test"][1:6701])
    assert start.data["train"].shape == start.data["validation"].shape
    starts = task.draws(0, 0, 300)["starts"]
    assert starts.min() >= 0
    assert starts.max() + task.context + 1 <= len(tokens["train"])


def test_a_small_transformer_is_evaluated_on_fewer_windows_from_all_over_the_text():
    """On 32 batches of 3 windows, about seven windows apart."""
    windows = Transformer(context=10, batch=3).data()["validation"]
    every = Transformer(context=10, batch=32).data()["validation"]
    places = np.floor(np.linspace(0, len(every), 32 * 3, endpoint=False)).astype(int)
    np.testing.assert_array_equal(windows, every[places])


def test_targets_of_the_default_text_are_what_counting_gives():
    from optbench.tasks import transformer

    counted = [text.baseline("pydoc", order) for order in transformer.ORDERS]
    assert [round(value, 5) for value in counted] == list(transformer.BASELINES["pydoc"])


# --- ngrams and zipf -----------------------------------------------------------------------------------------


def test_features_are_the_hashed_n_grams_before_a_character():
    task = NGrams(orders=3, buckets=50)
    tokens = np.array([7, 1, 0, 4, 2, 2], np.uint16)
    features, labels = task.hashed(tokens)
    assert labels.tolist() == [4, 2, 2]
    for row, at in zip(features, range(3, 6), strict=True):
        for order in (1, 2, 3):
            value = sum((int(tokens[at - j]) + 1) * 1_000_003**j for j in range(1, order + 1))
            assert row[order - 1] == (value + order) % (2**31 - 1) % 50


def test_a_batch_of_ngrams_touches_few_rows_of_the_embedding():
    task = NGrams()
    rows = task.draws(0, 0, 1)["rows"][0]
    touched = np.unique(task.data()["features"][rows])
    loss, _ = task.torch()
    params = {name: torch.tensor(value, requires_grad=True) for name, value in task.init(0).items()}
    params["head"] = torch.ones_like(params["head"]).cumsum(0).requires_grad_()
    data = {name: torch.as_tensor(np.ascontiguousarray(value)) for name, value in task.data().items()}
    loss(params, data, {"rows": torch.as_tensor(rows.astype(np.int64))}).backward()
    moved = np.flatnonzero(params["embedding"].grad.abs().sum(1).numpy())
    assert set(moved) == set(touched)
    assert len(moved) < 0.3 * task.buckets


def test_classes_of_zipf_have_shares_in_proportion_to_one_over_their_number():
    labels = Zipf(classes=8).data()["labels"]
    shares = 1 / np.arange(1, 9)
    expected = len(labels) * shares / shares.sum()
    counts = np.bincount(labels, minlength=8)
    assert (((counts - expected) ** 2 / expected).sum()) < stats.chi2.isf(1e-3, 7)


# --- autoencoder and xor_rnn ---------------------------------------------------------------------------------


def test_autoencoder_targets_are_those_of_linear_methods():
    """The mean image misses the first target; as many principal components as numbers in the code reach the second."""
    parts, task = digits.splits(), Autoencoder()
    mean = parts["train_x"].mean(axis=0)
    centred, held_out = parts["train_x"] - mean, parts["validation_x"] - mean
    axes = np.linalg.svd(centred, full_matrices=False)[2][: task.code]
    rest = held_out - held_out @ axes.T @ axes
    first, second, third = (target.value for target in task.targets())
    assert np.mean(held_out**2) == pytest.approx(0.0737, abs=5e-5)
    assert np.mean(rest**2) == pytest.approx(second, abs=5e-5)
    assert third < second < first < np.mean(held_out**2)


def test_autoencoder_starts_sparse():
    params = Autoencoder().init(0)
    assert [params[f"w{i}"].shape[0] for i in range(8)] == [128, 64, 32, 8, 32, 64, 128, 64]
    for i in range(8):
        incoming = (params[f"w{i}"] != 0).sum(axis=1)
        assert set(incoming) == {min(15, params[f"w{i}"].shape[1])}


@pytest.mark.parametrize("length", [4, 10, 16, 50])
def test_xor_marks_and_labels(length):
    """One mark in the first tenth, one between a tenth and a half, never the same; right answers by hand."""
    task = XorRNN(length=length, units=4, batch=500)
    draw = {key: value[0] for key, value in task.draws(0, 0, 1).items()}
    first, second = draw["marks"].T
    assert np.all(first < max(1, length / 10))
    assert np.all(second > first)
    assert np.all(second <= length / 2)
    differ = draw["bits"][np.arange(500), first] != draw["bits"][np.arange(500), second]
    assert 0.4 < differ.mean() < 0.6
    # A network that always says 3: the margin is 3 where the signs differ and -3 where not.
    params = {name: np.zeros(array.shape, np.float32) for name, array in task.init(0).items()}
    params["output_bias"] += 3
    expected = np.mean(np.where(differ, np.log1p(np.exp(-3)), np.log1p(np.exp(3))))
    assert float(task.jax().loss(params, {}, draw)) == pytest.approx(expected, rel=1e-5)


# --- the lint: not solved at the start, bounded below, reached by one method, missed by another ------------

REFERENCES = {
    "quadratic_10": ("adam", "novograd"),
    "quadratic_100": ("adam", "sgd"),
    "rosenbrock_2": ("adam", "sgd"),
    "rosenbrock_100": ("novograd", "sgd"),
    "mlp": ("kron", "sgd"),
    "resnet_quick": ("kron", "novograd"),
    "transformer_8": ("kron", "novograd"),
}
"""For each task of the quickstart: a method that reaches its main or hardest target, and one that misses it."""


def values_at(trace, metric):
    """The metric over the run: each step's loss, or the evaluations."""
    return trace.losses if metric == "loss" else trace.evaluations[metric]


@pytest.mark.parametrize(
    "name", [n if tasks.parse(n).toy else pytest.param(n, marks=pytest.mark.slow) for n in REFERENCES]
)
def test_lint(name):
    """A task is worth running: it starts unsolved, is bounded below, and its targets tell methods apart."""
    task = tasks.names()[name]
    reaches: dict[str, list[bool]] = {}
    for optimizer in REFERENCES[name]:
        cells = [
            Cell(task, trial, steps=task.horizon, seed=seed)
            for trial in optimizers.names()[optimizer].trials(9)
            for seed in range(3)
        ]
        traces = run(cells)
        for trace in traces:
            for target in task.targets():
                assert values_at(trace, target.metric)[0] > target.value, f"{name} is solved at the start"
            if task.optimum is not None and trace.status is not Status.DIVERGED:
                assert np.nanmin(trace.losses) >= task.optimum - 1e-6
        reaches[optimizer] = []
        for target in task.targets():
            least = np.array([np.nanmin(values_at(trace, target.metric)) for trace in traces])
            medians = [middle(seeds) for seeds in least.reshape(-1, 3)]
            reaches[optimizer].append(min(medians) <= target.value)
    first, second = reaches.values()
    assert any(a and not b for a, b in zip(first, second, strict=True)), (
        f"{name}: {reaches} separates nothing"
    )
