"""`optbench try`: the error rate and the cost of its sequence, by simulation and from stored runs; and end to end."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import optbench
from optbench import environment, origin
from optbench.fields import UserError
from optbench.stats.comparison import same_bits
from optbench.stats.sequence import FAR, Estimate, estimate, half_width, looks, overall, seeds_needed
from optbench.versus.sides import parted
from tests.banks import banks
from tests.process import command

ALPHA, MOST, RUNS = 0.05, 200, 2000
BANKS = banks()
PAIRS = [(task, a, b) for task, own in BANKS.items() for a in own for b in own if a < b]


def stops(differences: np.ndarray, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
    """Of many runs [runs, seeds]: the seeds at which each stopped, and whether its interval then excluded 0."""
    known, stop = np.zeros(len(differences), bool), np.full(len(differences), differences.shape[1])
    for count in looks(differences.shape[1]):
        so_far = differences[:, :count]
        excluded = np.abs(so_far.mean(1)) > half_width(count, so_far.std(1, ddof=1), alpha)
        stop[excluded & ~known] = count
        known |= excluded
    return stop, known


def effect(seeds: int) -> float:
    """The effect size at which a paired t test of so many seeds has power 0.8 at two-sided 5 %."""
    edge = stats.t.ppf(0.975, seeds - 1)
    return optimize.brentq(lambda d: stats.nct.sf(edge, seeds - 1, d * math.sqrt(seeds)) - 0.8, 0.05, 2.5)


# --- the sequence -------------------------------------------------------------------------------------------


def test_the_interval_is_where_the_mixture_martingale_stays_below_one_over_alpha():
    d, g = np.random.default_rng(0).normal(0.3, 1, 12), 0.7

    def log_e(mu: float) -> float:
        n, s, v = len(d), (d - mu).sum(), ((d - mu) ** 2).sum()
        return n / 2 * math.log(v / (v - s**2 / (n + 1 / g))) - 0.5 * math.log(1 + n * g)

    found = estimate(d, ALPHA)
    high = optimize.brentq(lambda mu: log_e(mu) - math.log(1 / ALPHA), d.mean(), d.mean() + 20)
    assert found.high == pytest.approx(high)
    assert found.high - found.mean == pytest.approx(found.mean - found.low)


def test_the_mixture_is_the_ratio_of_marginal_likelihoods_of_the_t_statistic():
    """Integrated numerically: the density of t under N(0, g) effects over that under no effect."""
    n, g, t, grid = 9, 0.7, 2.3, np.linspace(-6, 6, 2001)
    prior = stats.norm.pdf(grid, 0, math.sqrt(g))
    density = np.array([stats.nct.pdf(t, n - 1, math.sqrt(n) * each) for each in grid]) * prior
    ratio = np.trapezoid(density, grid) / stats.t.pdf(t, n - 1)
    half = half_width(n, 1.0, 1 / ratio)
    assert half * math.sqrt(n) == pytest.approx(t, rel=1e-3)


def test_normal_differences_that_are_watched_all_the_while_give_few_false_verdicts():
    null = np.random.default_rng(1).standard_normal((RUNS, MOST))
    assert stops(null)[1].sum() <= 120


@pytest.mark.parametrize("seeds", [10, 15, 20, 40, 80, 120])
def test_a_real_effect_takes_at_most_half_again_the_seeds_of_a_fixed_t_test(seeds):
    noise = np.random.default_rng(seeds).standard_normal((RUNS, MOST))
    stop, _ = stops(noise + effect(seeds))
    assert stop.mean() <= 1.5 * seeds
    assert stop.max() <= MOST
    assert stops(noise + 2 * effect(seeds))[0].mean() <= seeds


def test_the_bank_has_at_least_200_seeds_of_two_optimizers_on_four_tasks():
    assert len(BANKS) >= 4
    assert all(len(own) >= 2 and min(map(len, own.values())) >= 200 for own in BANKS.values())


@pytest.mark.parametrize(("task", "a", "b"), PAIRS)
def test_real_paired_differences_without_a_mean_give_few_false_verdicts(task, a, b):
    """Centred, with random signs, at the correlation that the two optimizers have."""
    rng, d = np.random.default_rng(2), BANKS[task][a] - BANKS[task][b]
    drawn = rng.permuted(np.tile(d - d.mean(), (RUNS, 1)), axis=1)[:, :MOST]
    assert stops(drawn * rng.choice([-1, 1], drawn.shape))[1].sum() <= 120


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, own in BANKS.items() for name in own])
def test_one_optimizer_against_itself_with_other_seeds_gives_few_false_verdicts(task, name):
    drawn = np.random.default_rng(3).permuted(np.tile(BANKS[task][name], (RUNS, 1)), axis=1)
    half = drawn.shape[1] // 2
    assert stops(drawn[:, :half] - drawn[:, half : 2 * half])[1].sum() <= 120


def test_looks_begin_at_six_seeds_and_end_at_the_most():
    assert looks(20) == [6, 8, 10, 12, 15, 18, 20]
    assert looks(4) == [4]


@pytest.mark.parametrize(
    ("low", "high", "verdict", "direction"),
    [
        (-0.2, -0.1, "better", "better"),
        (0.1, 0.2, "worse", "worse"),
        (-0.1, 0.2, "cannot tell yet", None),
        (-0.002, 0.001, "equivalent", None),
        (-0.002, -0.001, "equivalent", "better"),
        (-math.inf, math.inf, "cannot tell yet", None),
    ],
)
def test_direction_and_equivalence_are_judged_apart(low, high, verdict, direction):
    known = Estimate(10, (low + high) / 2, 0.1, low, high)
    assert (known.verdict(1.01), known.direction) == (verdict, direction)


def test_the_seeds_that_it_takes_are_those_at_which_the_interval_would_decide():
    known = estimate(np.random.default_rng(0).normal(0.1, 1, 20), ALPHA)._replace(mean=0.1, sd=1.0)
    needed = seeds_needed(known, 1.0001, ALPHA)
    assert half_width(int(needed), 1.0, ALPHA) < 0.1 < half_width(int(needed * 0.9), 1.0, ALPHA)
    assert seeds_needed(known._replace(mean=0.0), 1.0001, ALPHA) == math.inf
    assert needed < FAR


def test_the_verdict_over_tasks():
    assert overall(["better", "cannot tell yet"]) == "better"
    assert overall(["better", "worse"]) == "mixed"
    assert overall(["equivalent", "cannot tell yet"]) == "cannot tell yet"
    assert overall(["identical", "equivalent"]) == "equivalent"
    assert overall(["identical", "identical"]) == "identical"


def test_bits_are_compared_of_what_both_sides_have():
    """A store that other tasks share has columns that the store of a commit lacks."""
    rows = pd.DataFrame({"losses": [np.ones(3)], "evaluation.loss": [np.ones(2)]})
    assert same_bits(rows.assign(**{"evaluation.test_error": [None]}), rows)
    assert not same_bits(rows, rows.assign(losses=[np.array([1, 1, 1 + 1e-9])]))


# --- end to end ---------------------------------------------------------------------------------------------

MINE = '''
import jax
import jax.numpy as jnp
import optax


def adam(learning_rate=0.001, b1=0.9, b2=0.999, corrected=True, scale=1.0):
    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return 0, zeros, zeros

    def update(grads, state, params=None):
        t, m, v = state[0] + 1, *state[1:]
        m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)
        first, second = (1 - b1**t, 1 - b2**t) if corrected else (1.0, 1.0)
        step = jax.tree.map(
            lambda m, v: -scale * learning_rate * (m / first) / (jnp.sqrt(v / second) + 1e-8), m, v
        )
        return step, (t, m, v)

    return optax.GradientTransformation(init, update)
'''  # fmt: skip
TASK = "quadratic[dim=20,noise=0.1]"
OPTIONS = {"tasks": (TASK,), "lr": ("0.1",), "steps": 60, "budget": "1h"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the same optimizer in two files."""
    for name in ("mine.py", "second.py"):
        (tmp_path / name).write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tried(x: str, against: str = "mine.py:adam", **options):
    return optbench.compare(x, against, **{**OPTIONS, **options})


def test_the_same_code_in_two_files_is_identical_and_json_is_what_the_documentation_lists(folder):
    words = ["--json", "--tasks", TASK, "--lr", "0.03,0.1", "--steps", "60", "--budget", "1h"]
    done = command("try", "second.py:adam", "--against", "mine.py:adam", *words, cwd=folder)
    assert done.returncode == 3, done.stderr
    data = json.loads(done.stdout)
    [task] = data["tasks"]
    assert (data["verdict"], data["exit_code"], task["ratio"], task["seeds"]) == ("identical", 3, 1.0, 6)
    assert task["x"]["learning_rate"] == task["against"]["learning_rate"]
    assert task["notes"] == []
    page = (Path(__file__).parent.parent / "docs" / "agents.md").read_text()
    for name in [*data, *task, *task["x"]]:
        assert f"`{name}`" in page, name


@pytest.mark.slow
def test_a_missing_bias_correction_is_worse_and_a_hundredth_of_a_learning_rate_is_neither(folder):
    worse = tried("mine.py:adam[corrected=false]")
    assert (worse.verdict, worse.exit_code) == ("worse", 1)
    assert "worse" in str(worse)
    said: list[str] = []
    again = tried("mine.py:adam[corrected=false]", say=said.append)
    assert again.data["tasks"] == worse.data["tasks"]  # what is stored is not computed again
    near = tried("mine.py:adam[scale=1.01]", max_seeds=15)
    assert near.verdict in ("equivalent", "cannot tell yet")


def git(folder: Path, *words: str) -> str:
    line = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_commit_runs_its_own_code(folder):
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    (folder / "mine.py").write_text(MINE.replace("corrected=True", "corrected=False"))
    assert tried("second.py:adam", "mine.py:adam@HEAD").verdict == "identical"
    assert len(git(folder, "worktree", "list").splitlines()) == 1
    with pytest.raises(UserError, match="no commit 'nowhere'"):
        tried("mine.py:adam", "mine.py:adam@nowhere")
    (folder / "third.py").write_text(MINE)
    with pytest.raises(UserError, match=r"has no file third\.py"):
        tried("mine.py:adam", "third.py:adam@HEAD")


def test_the_commit_of_what_is_compared_stands_behind_the_last_at():
    for text, ref in (
        ("adam", "HEAD"),
        ("a@b c/mine.py:make[x=0.1]", "v1"),
        ("m:make", "HEAD@{1}"),
        ("m:f", ""),
    ):
        assert parted(f"{text}@{ref}") == (text, ref)
    assert parted("a@b/mine.py:make[x=y@z]") == ("a@b/mine.py:make[x=y@z]", None)


def test_a_checkout_is_imported_in_place_of_the_repository(tmp_path, monkeypatch):
    """Wherever packages of the repository lie, and also where they are installed as editable."""
    for package in ("lib/one_of_repository", "python/other_of_repository"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "make.py").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "lib"), str(tmp_path / "python")]))
    names = ["one_of_repository.make", "other_of_repository.make"]
    file = tmp_path / "lib" / "one_of_repository" / "make.py"
    (tmp_path / "new.py").write_text("")
    with environment.checked_out(tmp_path, "HEAD") as checkout:
        there = checkout.folder / file.relative_to(tmp_path)
        assert checkout.target(f"{file}:make[x=1]") == f"{there}:make[x=1]"
        with pytest.raises(UserError, match=r"has no file new\.py"):
            checkout.target(f"{tmp_path}/new.py:make")
        with monkeypatch.context() as editable:
            editable.setattr(
                origin, "file_of", lambda name: tmp_path / "python" / f"{name.replace('.', '/')}.py"
            )
            variables = checkout.variables(["adam", *(f"{name}:f" for name in names[1:])])
        script = f"import {', '.join(names)}, sys; print(*(sys.modules[name].__file__ for name in {names}))"
        run = [sys.executable, "-c", script]
        found = subprocess.run(run, env=variables, check=True, capture_output=True, text=True).stdout.split()
        assert [Path(path).parents[2] for path in found] == [checkout.folder] * 2


def test_hidden_tasks_are_counted_and_each_use_halves_the_error_rate(folder):
    (folder / "results" / "try").mkdir(parents=True)
    (folder / "results" / "try" / "final.tsv").write_text("2026-01-01T00:00:00\tmine.py:adam\tadam\n")
    found = tried("second.py:adam", final=True)
    assert (found.data["final_uses"], found.data["error_rate"]) == (2, 0.0125)
    assert found.data["tasks"][0]["task"] == "hidden quadratic[dim=27,rotation=2,noise=0.1]"
    assert "Hidden tasks, use 2" in str(found)


@pytest.mark.slow
def test_what_depends_on_names_is_noticed(folder):
    (folder / "names.py").write_text(
        "def cheat(params, state, grads, step, learning_rate=0.01):\n"
        "    factor = 3.0 if 'x' in grads else 0.3\n"
        "    return {k: params[k] - factor * learning_rate * grads[k] for k in grads}, state\n"
    )
    found = optbench.compare("names.py:cheat", "sgd", **OPTIONS)
    assert any("depends on the names of parameters" in note for note in found.data["tasks"][0]["notes"])


def test_two_files_that_would_share_a_module_are_refused(folder):
    for name in ("old", "new"):
        (folder / name).mkdir()
        (folder / name / "shared_by_both.py").write_text(f"RATE = {len(name)}\n")
        (folder / name / "mine.py").write_text("import shared_by_both\n" + MINE)
    with pytest.raises(UserError, match="imports shared_by_both"):
        tried("new/mine.py:adam", "old/mine.py:adam")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": "soon"}, "is not a time"),
        ({"margin": 0.9}, "--margin"),
        ({"seed": 5}, "no option 'seed'. Did you mean max_seeds"),
        ({"tasks": ("valley",)}, "no randomness"),
        ({"x": "torch:NAdam"}, "NAdam is in torch, .* is in jax: they have no framework in common"),
        ({"x": "adam[learning_rate=0.5]"}, "fixes what the suite sweeps"),
    ],
)
def test_what_cannot_be_compared_is_refused(folder, options, words):
    with pytest.raises(UserError, match=words):
        tried(**{"x": "adam", "against": "optax:adam", **options})


NOISY = """
import jax
import jax.numpy as jnp


def noisy(params, state, grads, step, learning_rate=0.05, key=0):
    bits = jax.lax.bitcast_convert_type(sum(p.sum() for p in params.values()), jnp.int32)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(key), bits), len(grads))
    noise = {k: jax.random.normal(each, grads[k].shape) for each, k in zip(keys, grads)}
    return {k: params[k] - learning_rate * (grads[k] + 0.3 * noise[k]) for k in grads}, state
"""


@pytest.mark.slow
@pytest.mark.timeout(20_000)
def test_fifty_comparisons_of_equals_give_at_most_six_false_verdicts(folder):
    """Two sides of one law whose noise differs, on other seeds each time."""
    from optbench import catalogue
    from optbench.tasks.renamed import Renamed

    (folder / "noisy.py").write_text(NOISY)
    verdicts = []
    for salt in range(1, 51):
        task = Renamed(inner=catalogue.task(TASK), salt=salt)
        found = tried(
            "noisy.py:noisy[key=0]", "noisy.py:noisy[key=1]", lr=("0.05",), tasks=(task,), max_seeds=20
        )
        verdicts.append(found.verdict)
        print(salt, found.verdict, flush=True)
    assert sum(verdict in ("better", "worse") for verdict in verdicts) <= 6
