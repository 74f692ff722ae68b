"""What identifies a result: versions, machine, commit. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from optbench import origin
from optbench.fields import UserError, digest

QUICK = "--xla_backend_optimization_level=1"
"""At 0 the same draws are rounded otherwise in two programs."""
QUICKER = "--xla_cpu_use_fusion_emitters=false"
"""Halves what is left; for jaxlib 0.10 alone, since a flag that XLA does not know ends the process."""
PACKAGES = ("jax", "jaxlib", "optax", "torch", "numpy", "scikit-learn", "pyarrow")


def version(package: str) -> str:
    """The installed version, or ''."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def compile_quickly() -> None:
    """Spare optimizations by XLA in this process, which makes no array yet: programs of a few steps compile for longer
    than they run."""
    early = version("jaxlib").startswith("0.10.")
    os.environ.setdefault("XLA_FLAGS", f"{QUICK} {QUICKER}" if early else QUICK)


@functools.cache
def commit() -> str:
    """The commit of the checkout this code runs from, with '+' for uncommitted changes; '' outside one."""
    here = Path(__file__).parent.parent
    if not (here / ".git").exists():
        return ""
    head = git(here, "rev-parse", "--short=12", "HEAD")
    if head.returncode:
        return ""
    changed = git(here, "status", "--porcelain", "--untracked-files=no").stdout.strip()
    return head.stdout.strip() + "+" * bool(changed)


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)


@functools.cache
def cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def facts() -> dict[str, Any]:
    """The columns of a record that describe code and machine."""
    return {
        "optbench_version": version("optbench"),
        "commit": commit(),
        "python": platform.python_version(),
        **{f"version.{name}": version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu_model": cpu_model(),
        "threads": len(cores()),
    }


def provenance(*packages: str) -> str:
    """Versions and processor in a line, for the head of a file of numbers."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"optbench {version('optbench')}, {versions}, python {platform.python_version()}, {cpu_model()}"


def watch_memory() -> Callable[[], int | None]:
    """A function that gives the most bytes by which this process has grown since now; None where nobody counts.

    Linux's high-water mark is set back first. Memory that was freed before and is used again does not show.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        return lambda: resident("VmHWM") - before
    except (OSError, ValueError):
        return lambda: None


def resident(name: str, process: int | str = "self") -> int:
    """A line of the status of a process, in bytes."""
    for line in (PROC / str(process) / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{process}/status has no {name}")


PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")


def memory_files() -> Iterator[tuple[Path, Path]]:
    """What counts kills for lack of memory, and the limit: of the control group (version 2, 1), then of the machine."""
    groups = {"": "/", "memory": "/"}
    with contextlib.suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups |= dict.fromkeys(controllers.split(","), path)
    for path in (groups[""], "/"):  # in a container the path may be that outside of it
        yield CGROUPS / path[1:] / "memory.events", CGROUPS / path[1:] / "memory.max"
    for path in (groups["memory"], "/"):
        above = CGROUPS / "memory" / path[1:]
        yield above / "memory.oom_control", above / "memory.limit_in_bytes"
    yield PROC / "vmstat", PROC / "none"


def oom_kills() -> int | None:
    """How many processes of this control group, else of this machine, the kernel has killed for lack of memory."""
    for counts, _ in memory_files():
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(dict(line.split(None, 1) for line in counts.read_text().splitlines())["oom_kill"])
    return None


def memory() -> int:
    """Bytes that the processes of this control group may have."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for _, limit in memory_files():
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(limit.read_text()))
    return min(sizes)


def cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well: synced, then renamed."""
    unfinished = temporary(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def temporary(path: Path) -> Path:
    """The name of a temporary file, with that of its writer, for `sweep`."""
    return path.with_name(f".{path.name}.{machine()}-{os.getpid()}.tmp")


@functools.cache
def machine() -> str:
    """Eight hex digits of what gives processes their numbers: the host, and in a container its namespace."""
    with contextlib.suppress(OSError):
        return digest([platform.node(), (PROC / "self/ns/pid").stat().st_ino])[:8]
    return digest([platform.node(), 0])[:8]


ABANDONED = 86400.0
"""Seconds after which nobody is writing a temporary file any more, on whatever machine: a write takes seconds."""


def sweep(folder: Path) -> None:
    """Delete the temporary files of writers that were killed: this machine's at once, others' after a day."""
    for path in folder.glob(".*.tmp"):
        host, _, process = path.suffixes[-2].lstrip(".").partition("-")
        with contextlib.suppress(OSError):
            ended = host == machine() and process.isdecimal() and not is_alive(int(process))
            if ended or time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is of another user
        return True
    return True


def sync(path: Path) -> None:
    """Make the kernel write a file, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Where compiled programs are kept: OPTBENCH_CACHE, else the user's cache folder."""
    if own := os.environ.get("OPTBENCH_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "optbench"


def remembered(path: Path) -> str | None:
    """A text in the cache folder; None where there is none, or another one than `remember` wrote."""
    with contextlib.suppress(OSError, ValueError):
        total, _, text = path.read_text().partition("\n")
        if total == digest(text):
            return text
    return None


def remember(path: Path, text: str) -> None:
    """Keep a text with its digest, where the folder can be written to."""
    with contextlib.suppress(OSError):
        sweep(path.parent)
        with whole(path) as unfinished:
            unfinished.write_text(f"{digest(text)}\n{text}")


class Checkout(NamedTuple):
    """A commit of the repository at `root`, checked out into `folder`."""

    commit: str
    root: Path
    folder: Path

    def has(self, path: Path) -> Path:
        """Where a path of the repository is in the checkout."""
        return self.folder / path.relative_to(self.root)

    def target(self, text: str) -> str:
        """What names at the commit what a text names here; UserError where its file is not there."""
        file, (_, is_file, name) = origin.file_of_target(text), text.partition(".py:")
        inside = file is not None and file.is_relative_to(self.root)
        if file is None or not (inside or is_file):
            return text
        if not inside or not self.has(file).is_file():
            path = os.path.relpath(file, self.root)
            raise UserError(
                f"commit {self.commit[:12]} has no file {path}. Give another commit, or leave it out."
            )
        return f"{self.has(file)}:{name}" if is_file else text

    def variables(self, targets: Iterable[str]) -> dict[str, str]:
        """Those of a process that imports from the checkout what this one imports from the repository.

        What imports the modules of targets comes first: an editable install may find them without `sys.path`.
        """
        modules = (text.partition(":")[0] for text in targets if ":" in text and ".py:" not in text)
        files = {name: path for name in modules if (path := origin.file_of(name))}
        own = [file.parents[name.count(".") + (file.stem == "__init__")] for name, file in files.items()]
        every = [path.resolve() for path in (*own, *map(Path, sys.path), self.root, self.root / "src")]
        paths = [str(self.has(path)) for path in every if path.is_relative_to(self.root)]
        rest = filter(None, [os.environ.get("PYTHONPATH")])
        return {**os.environ, "PYTHONPATH": os.pathsep.join([*dict.fromkeys(paths), *rest])}


@contextlib.contextmanager
def checked_out(inside: Path, ref: str) -> Iterator[Checkout]:
    """A commit of the repository that a folder lies in, as a worktree in a temporary folder."""
    import tempfile

    def run(*words: str) -> str:
        done = git(inside, *words)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["git failed"])[-1]
            raise UserError(f"no commit {ref!r} of {inside}: {last}. Give a commit, branch or tag.")
        return done.stdout.strip()

    root = Path(run("rev-parse", "--show-toplevel")).resolve()
    commit = run("rev-parse", "--verify", "--end-of-options", f"{ref}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="optbench-") as above:
        folder = Path(above).resolve() / root.name
        run("worktree", "add", "--detach", str(folder), commit)
        try:
            yield Checkout(commit, root, folder)
        finally:
            run("worktree", "remove", "--force", str(folder))
