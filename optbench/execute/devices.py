"""Which device a run uses, found out without importing jax into the driver."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import NamedTuple

from optbench.core import UserError

PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin", "jax_rocm7_plugin", "jax_rocm60_plugin", "libtpu")
"""Packages that give jax an accelerator; without one, nobody need ask."""


class Device(NamedTuple):
    """The platform that programs are compiled for, and the kind of device that results are kept under."""

    platform: str
    kind: str


def resolve(name: str) -> Device:
    """The device asked for; `auto` is the accelerator where there is one. UserError if it is not there."""
    plugged = any(map(importlib.util.find_spec, PLUGINS))
    if name == "cpu" or (name == "auto" and not plugged):
        return Device("cpu", "cpu")
    there = ask() if plugged else [Device("cpu", "cpu")]
    if name == "auto":
        return next((device for device in there if device.platform != "cpu"), Device("cpu", "cpu"))
    for device in there:
        if device.platform == name:
            return device
    found = ", ".join(sorted({device.platform for device in there}))
    raise UserError(
        f"--device {name} is not here: jax sees {found}. Try --device auto, or: pip install 'optbench[cuda]'"
    )


def ask() -> list[Device]:
    """What jax sees, asked in a process of its own."""
    done = subprocess.run([sys.executable, "-m", __name__], capture_output=True, text=True, check=False)
    if done.returncode:
        return [Device("cpu", "cpu")]
    return [Device(*pair) for pair in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Print jax's devices as JSON pairs of platform and kind."""
    import jax

    platforms = {"cuda": "gpu", "rocm": "gpu"}
    print(json.dumps([(platforms.get(d.platform, d.platform), d.device_kind) for d in jax.devices()]))


if __name__ == "__main__":
    main()
