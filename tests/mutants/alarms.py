"""Reruns clean code under other machines' roundings and counts false alarms: `python -m tests.mutants.alarms`.

Each rerun is one optimizer in one framework, wholly, in a process of its own environment: instruction sets, threads,
lane widths, and harmless rewritings of the code (reordered sums, fused expressions). It counts in .cache/alarms.jsonl,
where what is counted is not run again, and writes its part of docs/gate.md. Some hour of two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.mutants import ROOT, Mutant, edited

KEPT = ROOT / ".cache" / "alarms.jsonl"
XLA = "XLA_FLAGS"
CORES = os.cpu_count() or 1
ENVIRONMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "as committed": ("jax,torch", {}),
    "XLA, SSE4.2": ("jax", {XLA: "--xla_cpu_max_isa=SSE4_2"}),
    "XLA, AVX": ("jax", {XLA: "--xla_cpu_max_isa=AVX"}),
    "XLA, older emitters": ("jax", {XLA: "--xla_cpu_use_fusion_emitters=false"}),
    "XLA, no optimization": ("jax", {XLA: "--xla_backend_optimization_level=0"}),
    "ATen, default": ("torch", {"ATEN_CPU_CAPABILITY": "default"}),
    "ATen, AVX2": ("torch", {"ATEN_CPU_CAPABILITY": "avx2"}),
    "MKL, SSE4.2": ("torch", {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}),
    "MKL, AVX2": ("torch", {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}),
    "OpenBLAS, Prescott": ("jax,torch", {"OPENBLAS_CORETYPE": "Prescott"}),
    "OpenBLAS, Haswell": ("jax,torch", {"OPENBLAS_CORETYPE": "Haswell"}),
    **{f"another process, {i}": ("jax,torch", {}) for i in (1, 2, 3, 4)},
    "two threads": ("jax,torch", {"OPTBENCH_ALARM_THREADS": "2"}),
    "16 lanes": ("jax,torch", {"OPTBENCH_ALARM_WIDTH": "16"}),
    "8 lanes": ("jax,torch", {"OPTBENCH_ALARM_WIDTH": "8"}),
}
ROOMS = "optbench.optimizers."
HARMLESS = (
    Mutant(
        "x",
        ROOMS + "kron.torch",
        "return u / (((u * u).mean().sqrt()) / RMS_CLIP).clamp(min=1)",
        "return u / ((u.square().sum() / u.numel()).sqrt() / RMS_CLIP).clamp(min=1)",
        "kron",
    ),
    Mutant(
        "x",
        ROOMS + "kron.torch",
        "g = g + self.damping * g.abs().mean() * v",
        "g = v * (g.abs().mean() * self.damping) + g",
        "kron",
    ),
    Mutant("x", ROOMS + "kron.torch", "norms.prod() ** (1 / len(qs))", "norms.log().mean().exp()", "kron"),
    Mutant(
        "x", ROOMS + "kron.torch", "times(q.T, times(q, g, axis), axis)", "times(q.T @ q, g, axis)", "kron"
    ),
    Mutant(
        "x",
        ROOMS + "kron.jax_factors",
        "return u / jnp.maximum(1.0, jnp.sqrt(jnp.mean(u * u)) / RMS_CLIP)",
        "return u * jnp.minimum(1.0, RMS_CLIP / jnp.sqrt(jnp.mean(u * u) + 1e-300))",
        "kron",
    ),
    Mutant(
        "x",
        ROOMS + "ngc.torch",
        'state["g1"].mul_(b1).add_(grad, alpha=w1)',
        'state["g1"].lerp_(grad, w1)',
        "ngc_adam",
    ),
    Mutant(
        "x",
        ROOMS + "ngc.torch",
        'phi.add(phi - old, alpha=group["mu"])',
        'phi * (1 + group["mu"]) - group["mu"] * old',
        "ngc_nag",
    ),
    Mutant(
        "x",
        ROOMS + "ngc.jax",
        "return (-step * mean / (jnp.sqrt(square) + eps)).astype(u.dtype)",
        "return (-step * (mean / (jnp.sqrt(square) + eps))).astype(u.dtype)",
        "ngc_adam",
    ),
    Mutant(
        "x",
        ROOMS + "novograd.torch",
        "squared = whole(grad.square().sum())",
        "squared = (grad * grad).flip(0).sum() if grad.ndim else grad * grad",
        "novograd",
    ),
    Mutant(
        "x",
        ROOMS + "novograd.torch",
        'state["nu"].mul_(group["b2"]).add_(squared, alpha=1 - group["b2"])',
        'state["nu"].lerp_(squared, 1 - group["b2"])',
        "novograd",
    ),
    Mutant(
        "x",
        ROOMS + "novograd.jax",
        "squared = jnp.sum(wider * wider)",
        "squared = jnp.vdot(wider, wider)",
        "novograd",
    ),
    Mutant(
        "x",
        ROOMS + "novograd.jax",
        "jnp.where(first, squared, (1 - b2) * squared + b2 * nu)",
        "jnp.where(first, squared, squared + b2 * (nu - squared))",
        "novograd",
    ),
    Mutant(
        "x",
        ROOMS + "expectigrad.torch",
        'move = grad / mean.sqrt_().add_(group["eps"])',
        'move = grad * (mean.sqrt_() + group["eps"]).reciprocal()',
        "expectigrad",
    ),
    Mutant(
        "x",
        ROOMS + "expectigrad.torch",
        'move = state["momentum"].mul_(beta).add_(move, alpha=1 - beta)',
        'move = state["momentum"].lerp_(move, 1 - beta)',
        "expectigrad",
    ),
    Mutant(
        "x",
        ROOMS + "esgd.torch",
        "average.mul_(b1).add_(grad, alpha=1 - b1)",
        "average.lerp_(grad, 1 - b1)",
        "esgd",
    ),
    Mutant(
        "x",
        ROOMS + "esgd.torch",
        "torch.lerp(average, grad, 1 - nu)",
        "(nu * average + (1 - nu) * grad)",
        "esgd",
    ),
    Mutant("x", ROOMS + "xmat", "w = a * h + b * self.flip(h)", "w = b * self.flip(h) + a * h", "xmat"),
    Mutant("x", ROOMS + "xmat", "size_a = w * w - z * z", "size_a = (w - z) * (w + z)", "xmat"),
    Mutant("x", ROOMS + "lra", "x = x + U @ (V.T @ x)", "x = U @ (x @ V) + x", "lra"),
    Mutant("x", ROOMS + "lra", "return d * (x + V @ (U.T @ x))", "return d * x + d * (V @ (x @ U))", "lra"),
    Mutant("x", ROOMS + "affine", "root = self.xp.np.sqrt(scale)", "root = scale**0.5", "affine"),
    Mutant(
        "x",
        ROOMS + "psgd.torch_base",
        'foreach._foreach_sub_(params, foreach._foreach_mul(updates, group["lr"]))',
        'foreach._foreach_add_(params, updates, alpha=-group["lr"])',
        "kron,xmat",
    ),
)
"""Rewritings that change nothing but the rounding."""


def rerun(opt: str, framework: str, mutant: Mutant | None, seed: int) -> tuple[int, list[str]]:
    """How many rows were compared, and what was said to differ."""
    from tests.mutants.__main__ import committed

    clean = committed(opt, framework)
    with edited(mutant):
        from optbench import catalogue
        from optbench.engines import lanes
        from optbench.gate import fingerprint

        lanes.WIDTH = int(os.environ.get("OPTBENCH_ALARM_WIDTH", lanes.WIDTH))
        new = fingerprint.measure(catalogue.optimizer(opt), framework, first_seed=seed)
        is_known = lambda table: {key: each for key, each in table.items() if key[4] != "time"}  # noqa: E731
        found = fingerprint.compare(is_known(clean), is_known(new))
        return len({key[:4] for key in new}), [" ".join(each) for each in found]


def counted() -> set[tuple[str, str, str, str]]:
    lines = KEPT.read_text().splitlines() if KEPT.is_file() else []
    return {(each["how"], each["opt"], each["framework"], each["what"]) for each in map(json.loads, lines)}


def work(name: str, opts: list[str], first_seed: int) -> None:
    """Rerun optimizers under one environment, or under one rewriting."""
    threads = int(os.environ.get("OPTBENCH_ALARM_THREADS", "1"))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2] if threads == 2 else {first_seed % CORES})
    from optbench import catalogue
    from optbench.execute.worker import ENGINES

    frameworks, _ = ENVIRONMENTS.get(name, ("jax,torch", {}))
    jobs: list[tuple[str, str, Mutant | None]] = [
        (opt, framework, None)
        for opt in opts
        for framework in frameworks.split(",")
        if framework in catalogue.optimizer(opt).frameworks()
    ]
    if name == "rewritten":
        jobs = [
            (opt, each, mutant)
            for mutant in HARMLESS
            for opt in mutant.opt.split(",")
            for each in mutant.frameworks
        ]
    done = counted()
    for opt, framework, mutant in jobs:
        if (name, opt, framework, mutant.new if mutant else "") in done:
            continue
        ENGINES[framework]("cpu")
        if framework == "torch" and threads == 2:
            import torch

            torch.set_num_threads(2)
        rows, alarms = rerun(opt, framework, mutant, first_seed)
        line = {
            "how": name,
            "opt": opt,
            "framework": framework,
            "rows": rows,
            "alarms": alarms,
            "what": mutant.new if mutant else "",
        }
        with KEPT.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def main() -> int:
    from optbench.gate import fingerprint
    from tests.mutants.__main__ import BASELINE, DOC
    from tests.mutants.page import write_reruns

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opt", default=",".join(sorted({key[1] for key in fingerprint.read(BASELINE)})))
    parser.add_argument("--how", default="")
    parser.add_argument("--seed", type=int, default=200)
    given = parser.parse_args()
    if given.how:
        work(given.how, given.opt.split(","), given.seed)
        return 0
    KEPT.parent.mkdir(exist_ok=True)

    def chain(core: int) -> None:
        for seed, name in enumerate([*ENVIRONMENTS, "rewritten"], given.seed):
            if seed % CORES == core:
                own = {**os.environ, **ENVIRONMENTS.get(name, ("", {}))[1]}
                words = ["--how", name, "--opt", given.opt, "--seed", str(seed)]
                subprocess.run(
                    [sys.executable, "-m", "tests.mutants.alarms", *words], cwd=ROOT, env=own, check=True
                )

    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(chain, range(CORES)))
    write_reruns(DOC)
    return 0


if __name__ == "__main__":
    sys.exit(main())
