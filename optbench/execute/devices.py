"""Which device a run uses, found out without importing jax or torch into the driver."""

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
"""Packages that give jax an accelerator; without one, nobody need ask."""
LIBRARIES = ("libtorch_cuda.so", "libtorch_hip.so", "torch_cuda.dll", "torch_hip.dll")
"""Files inside torch that give it an accelerator."""
ADVICE = {
    "jax": "pip install 'optbench[cuda]'",
    "torch": "a build of torch with CUDA, from pytorch.org",
}


class Device(NamedTuple):
    """The platform that programs are compiled for, and the kind of device that results are kept under."""

    platform: str
    kind: str
    number: int = 1
    """How many of them there are; each gets a worker of its own."""
    memory: int = 0
    """Bytes that programs may take of one of them; 0 where it does not say."""


CPU = Device("cpu", "cpu")


def resolve(name: str, framework: str) -> Device:
    """The device asked for; `auto` is the accelerator where there is one. UserError if it is not there."""
    equipped = {"jax": jax_is_equipped, "torch": torch_is_equipped}[framework]()
    if name == "cpu" or (name == "auto" and not equipped):
        return CPU
    there = ask(framework) if equipped else [CPU]
    if name == "auto":
        return next((device for device in there if device.platform != "cpu"), CPU)
    for device in there:
        if device.platform == name:
            return device
    found = ", ".join(sorted({device.platform for device in there}))
    raise UserError(
        f"--device {name} is not here: {framework} sees {found}. Try --device auto, or: {ADVICE[framework]}"
    )


def jax_is_equipped() -> bool:
    """Whether jax has been installed with a plugin for an accelerator."""
    return any(map(importlib.util.find_spec, PLUGINS))


def torch_is_equipped() -> bool:
    """Whether torch has been installed with the libraries for an accelerator."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    return any((Path(found.origin).parent / "lib" / name).exists() for name in LIBRARIES)


def ask(framework: str) -> list[Device]:
    """What a framework sees, asked in a process of its own; the CPU alone if it cannot say."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, framework],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    )
    return [CPU] if done.returncode else [Device(*row) for row in json.loads(done.stdout.splitlines()[-1])]


def seen_by_jax() -> list[Device]:
    """The kinds of devices that jax has."""
    import jax

    platforms = {"cuda": "gpu", "rocm": "gpu"}
    found = jax.devices()
    first = found[0]
    memory = (first.memory_stats() or {}).get("bytes_limit", 0)
    # One process at a time may hold TPUs, all of them.
    count = 1 if first.platform == "tpu" else len(found)
    return [Device(platforms.get(first.platform, first.platform), first.device_kind, count, memory)]


def seen_by_torch() -> list[Device]:
    """The kinds of devices that torch has."""
    import torch

    if not torch.cuda.is_available():
        return [CPU]
    facts = torch.cuda.get_device_properties(0)
    return [CPU, Device("gpu", facts.name, torch.cuda.device_count(), facts.total_memory)]


SEEN: dict[str, Callable[[], list[Device]]] = {"jax": seen_by_jax, "torch": seen_by_torch}


if __name__ == "__main__":
    print(json.dumps(SEEN[sys.argv[1]]()))
