"""Which device a run uses, determined without importing jax or torch into the driver."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from optbench.fields import UserError

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin", "jax_rocm60_plugin", "libtpu")
"""Packages that give jax an accelerator; without one, no process need be started."""
LIBRARIES = ("libtorch_cuda.so", "libtorch_hip.so", "torch_cuda.dll", "torch_hip.dll")
"""Files inside torch that give it an accelerator."""
ADVICE = {"jax": "pip install 'optbench[cuda]'", "torch": "a build of torch with CUDA, from pytorch.org"}


class Device(NamedTuple):
    """The platform that programs are compiled for, and the kind of device that results are kept under."""

    platform: str
    kind: str
    number: int = 1
    """How many the machine has; each gets a worker of its own."""
    memory: int = 0
    """Bytes of one that programs may use; 0 if unknown."""


CPU = Device("cpu", "cpu")


def resolve(name: str, framework: str) -> Device:
    """The device of this name; `auto` is the accelerator where there is one. UserError if there is none."""
    if name == "cpu":
        return CPU
    available = ask(framework) if equipped(framework) else [CPU]
    for device in available:
        if device.platform == name or (name == "auto" and device.platform != "cpu"):
            return device
    if name == "auto":
        return CPU
    platforms = ", ".join(sorted({device.platform for device in available}))
    raise UserError(
        f"--device {name} is not available: {framework} sees {platforms}. Try --device auto, or: {ADVICE[framework]}"
    )


def equipped(framework: str) -> bool:
    """Whether a framework is installed with what drives an accelerator."""
    if framework == "jax":
        return any(map(importlib.util.find_spec, PLUGINS))
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    return any((Path(spec.origin).parent / "lib" / name).exists() for name in LIBRARIES)


def ask(framework: str) -> list[Device]:
    """What a framework sees in a process of its own; the CPU alone if that fails."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, framework],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    )
    return [CPU] if done.returncode else [Device(*row) for row in json.loads(done.stdout.splitlines()[-1])]


def seen_by_jax() -> list[Device]:
    import jax

    platforms = {"cuda": "gpu", "rocm": "gpu"}
    devices = jax.devices()
    first = devices[0]
    memory = (first.memory_stats() or {}).get("bytes_limit", 0)
    # One process at a time may hold TPUs, all of them.
    count = 1 if first.platform == "tpu" else len(devices)
    return [Device(platforms.get(first.platform, first.platform), first.device_kind, count, memory)]


def seen_by_torch() -> list[Device]:
    import torch

    if not torch.cuda.is_available():
        return [CPU]
    facts = torch.cuda.get_device_properties(0)
    return [CPU, Device("gpu", facts.name, torch.cuda.device_count(), facts.total_memory)]


SEEN: dict[str, Callable[[], list[Device]]] = {"jax": seen_by_jax, "torch": seen_by_torch}


if __name__ == "__main__":
    print(json.dumps(SEEN[sys.argv[1]]()))
