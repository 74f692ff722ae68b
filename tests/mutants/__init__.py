"""Mutants of the package, and which layer of `optbench check` catches each: `python -m tests.mutants`.

A mutant is one edit: in a module, a snippet that occurs once, and what replaces it. It is made while the module is
imported; nothing is written. `real.py` has bugs of public optimizers, `by_hand.py` and `sampled.py` the others.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Mutant(NamedTuple):
    """One edit of one module, and the optimizers that it concerns."""

    name: str
    module: str
    old: str
    new: str
    opt: str
    """The optimizers to check, by name, the likeliest first."""
    source: str = ""
    equivalent: str = ""
    """A proof that it changes nothing that a user can see."""
    rows: str = ""
    """Rows to try first."""

    @property
    def frameworks(self) -> tuple[str, ...]:
        """The cheaper one first where the module is of both."""
        last = self.module.rpartition(".")[2]
        return (
            ("jax",)
            if "jax" in last or "optax" in last
            else ("torch",)
            if "torch" in last
            else ("torch", "jax")
        )

    def source_code(self) -> str:
        """The module's source with the edit; an AssertionError that says what is there no more."""
        path = ROOT / (self.module.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / self.module.replace(".", "/") / "__init__.py"
        assert path.is_file(), f"mutant {self.name}: there is no module {self.module}"
        text = path.read_text()
        times = text.count(self.old)
        assert times == 1, (
            f"mutant {self.name}: {self.old!r} is {times} times in {path.relative_to(ROOT)}, not once"
        )
        return text.replace(self.old, self.new)


class Editor(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Imports one module with an edit."""

    def __init__(self, mutant: Mutant):
        self.mutant = mutant
        self.text = mutant.source_code().encode()

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.mutant.module:
            return None
        file = ROOT / (fullname.replace(".", "/") + ".py")
        is_package = not file.is_file()
        where = ROOT / fullname.replace(".", "/") / "__init__.py" if is_package else file
        return importlib.util.spec_from_file_location(
            fullname,
            where,
            loader=self,
            submodule_search_locations=[str(where.parent)] if is_package else None,
        )

    def get_filename(self, fullname: str) -> str:
        return f"<mutant {self.mutant.name}>"

    def get_data(self, path: str) -> bytes:
        return self.text

    def path_stats(self, path: str):
        raise OSError  # no cached bytecode


def forget() -> None:
    """Have the package imported again."""
    for name in [
        name for name in sys.modules if name == "optbench" or name.startswith(("optbench.", "suites"))
    ]:
        del sys.modules[name]


@contextmanager
def edited(mutant: Mutant | None) -> Iterator[None]:
    """The package with an edit, freshly imported; and afterwards as it was."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "optbench"}
    forget()
    editor = Editor(mutant) if mutant else None
    if editor:
        sys.meta_path.insert(0, editor)
    try:
        yield
    finally:
        if editor:
            sys.meta_path.remove(editor)
        forget()
        sys.modules.update(before)


def mutants() -> list[Mutant]:
    """All of them."""
    from tests.mutants import by_hand, real, sampled

    return [*real.MUTANTS, *by_hand.MUTANTS, *sampled.MUTANTS]
