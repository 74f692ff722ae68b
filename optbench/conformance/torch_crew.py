"""Processes of one gloo group, started once by a worker, which serve all checks and optimizers on several processes."""

from __future__ import annotations

import functools
import multiprocessing
import pickle
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from optbench.conformance import Inapplicable, is_refusal

SIZE = 4


@functools.cache
def crew() -> tuple[tempfile.TemporaryDirectory[str], list[Any]]:
    """Four processes that call functions of this package together: the folder where they meet, and a pipe to each."""
    # The server imports torch once; its children have it. They end with the worker, whose pipes close.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optbench.conformance.torch_sharding"])
    folder, pipes = tempfile.TemporaryDirectory(prefix="optbench-crew-"), []
    for rank in range(SIZE):
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(rank, folder.name, theirs), daemon=True).start()
        theirs.close()
        pipes.append(ours)
    return folder, pipes


def together(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What each process of the crew returns; the first error is raised here."""
    _, pipes = crew()
    try:
        for pipe in pipes:
            pipe.send((function, arguments))
        answers = [pipe.recv() for pipe in pipes]
    except (EOFError, BrokenPipeError):
        crew.cache_clear()
        raise AssertionError("A process of four died.") from None
    for error, _ in answers:
        if error is not None:
            raise error
    return [value for _, value in answers]


def serve(rank: int, folder: str, pipe: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=SIZE)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = None, function(*arguments)
            pickle.dumps(answer)
        except BaseException as error:  # of which those of checkpoints are some
            answer = faithful(error), None
        pipe.send(answer)


def faithful(error: BaseException) -> Exception:
    """An error that travels, with what is needed to tell a refusal from a crash."""
    if isinstance(error, Inapplicable | AssertionError):
        return type(error)(str(error))
    if is_refusal(error):
        return Inapplicable(f"It is refused: {error}")
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/torch/" not in frame.filename]
    where = f"{'/'.join(own[-1].filename.split('/')[-2:])} line {own[-1].lineno}: {own[-1].line}"
    text = (str(error).strip().splitlines() or [""])[-1][:250]
    return AssertionError(f"{type(error).__name__}: {text} ({where}).")


@functools.cache
def mesh(size: int) -> Any:
    """The first `size` processes; made by all of them."""
    return DeviceMesh("cpu", list(range(size)))
