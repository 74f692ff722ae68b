"""The origin of a user's class or function, and a digest of its source.

The origin is `module:name` or `file.py:name`. The code is a digest of the source file and of the local files that it
imports, without comments and docstrings; for a distribution installed by version, its name and version. Both are part
of a cell's id, so edited code is another cell. What cannot be imported again (a lambda, a class in a notebook or in
`__main__`) is unnamed: it can be sent to workers of this process, and its results live as long as the process.
"""

from __future__ import annotations

import ast
import base64
import functools
import hashlib
import importlib
import importlib.util
import io
import itertools
import json
import os
import secrets
import sys
import sysconfig
import tokenize
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import importlib.metadata

PACKAGE = __name__.partition(".")[0]
FILE = f"{PACKAGE}_file_"
"""Prefix of the names of modules that were loaded from a file."""
FILES: dict[str, str] = {}
"""Path of each file loaded as a module, by the module's name; workers load the same files."""
SOURCES: dict[str, str] = {}
"""Source of each such file when it was loaded; the file may have changed since."""
UNNAMED: dict[Any, str] = {}
"""Unnamed things, with their origin in this process."""
PROCESS = secrets.token_hex(4)
"""Distinguishes the unnamed things of this process from those of others."""
HELD: dict[str, Any] = {}
"""The reverse of UNNAMED."""


def is_named(thing: Any) -> bool:
    """Whether importing its module returns the same thing."""
    module, name = thing.__module__, getattr(thing, "__qualname__", "")
    if module in ("__main__", "__mp_main__") or not name or "<" in name:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is thing


def origin(thing: Any) -> str:
    """`module:name`, `file.py:name`, or `unnamed:name-1` for what cannot be imported."""
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    if not is_named(thing):
        short = name.rpartition(".")[2].strip("<>")
        return hold(thing, UNNAMED.get(thing, f"unnamed:{short}-{len(UNNAMED) + 1}-{PROCESS}"))
    path = FILES.get(thing.__module__)
    return f"{Path(path).name if path else home(thing, name)}:{name}"


def home(thing: Any, name: str) -> str:
    """The outermost package that exports the thing: `optax` for a function of `optax._src.alias`."""
    places = itertools.accumulate(thing.__module__.split("."), "{}.{}".format)
    exporting = (place for place in places if getattr(sys.modules.get(place), name, None) is thing)
    return next(exporting, thing.__module__)


def hold(thing: Any, name: str) -> str:
    UNNAMED[thing], HELD[name] = name, thing
    return name


@functools.cache
def code(thing: Any) -> str:
    """A digest of the source, read once per process, or `name==version` of an installed distribution."""
    if not is_named(thing):
        return origin(thing)
    module, root = thing.__module__, thing.__module__.partition(".")[0]
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return f"python=={sys.version_info.major}.{sys.version_info.minor}"
    path = Path(file).resolve()
    if not is_installed(path):
        return digest_of(closure([module], is_own))
    found = distribution(root)
    # The version of what was installed from a path or a commit need not move.
    if found is None or found.read_text("direct_url.json"):
        return digest_of(closure([module], lambda name: name.partition(".")[0] == root))
    return f"{found.name}=={found.version}"


def distribution(package: str) -> importlib.metadata.Distribution | None:
    import importlib.metadata

    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.distribution(names[0]) if names else None


def is_own(name: str) -> bool:
    """Whether a module is a file of the user's."""
    path = None if name.partition(".")[0] == PACKAGE else file_of(name)
    return path is not None and not is_installed(path)


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python or to what pip installed."""
    by_pip = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return by_pip or path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())


NUMBERS = ("optimizers", "tasks", "rules", "engines")
"""The folders of this package that affect numbers."""
DRAWS = f"{PACKAGE}.task"
"""The module that draws batches."""


@functools.cache
def version_of_numbers(modules: tuple[str, ...], framework: str) -> str:
    """A digest of the package's source that affects a cell's numbers, given the modules of its optimizer and task."""
    other = {"jax": "torch", "torch": "jax"}[framework]

    def counts(name: str) -> bool:
        parts = name.split(".")
        # The catalogues name everything, and the other framework's half of an optimizer computes nothing here.
        inside = len(parts) > 2 and parts[0] == PACKAGE and parts[1] in NUMBERS
        return name == DRAWS or (inside and not parts[-1].startswith(other))

    return digest_of(closure([*modules, f"{PACKAGE}.engines.{framework}"], counts))[:8]


# --- the files that importing a module loads ----------------------------------------------------------------


def closure(modules: Iterable[str], counts: Callable[[str], bool]) -> dict[str, Path]:
    """These modules and all that they import, directly or indirectly, as far as `counts` accepts them."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or not counts(name) or (path := file_of(name)) is None:
            continue
        found[name] = path
        waiting += imported(name, path.name == "__init__.py", source_of(name, path))
    return found


def source_of(name: str, path: Path) -> str:
    return SOURCES[name] if name in SOURCES else importlib.util.decode_source(path.read_bytes())


def file_of(name: str) -> Path | None:
    """The source file of a module, found without importing it; None where there is none."""
    if name in FILES:
        return Path(FILES[name])
    # A user's files come and go while a process lives, this package's do not.
    return located(name) if name.partition(".")[0] == PACKAGE else located.__wrapped__(name)


def file_of_target(text: str) -> Path | None:
    """The source file that `file.py:name` or `module:name` names; None where a text names none."""
    path, is_file, _ = text.partition(".py:")
    module, colon, _ = text.partition(":")
    return Path(f"{path}.py").resolve() if is_file else file_of(module) if colon else None


@functools.cache
def located(name: str) -> Path | None:
    spec = spec_of(name)
    has_source = spec is not None and spec.origin is not None and spec.origin.endswith(".py")
    return Path(str(spec.origin)).resolve() if spec is not None and has_source else None


def spec_of(name: str) -> ModuleSpec | None:
    """How a module would be imported; a package may be a folder without __init__.py."""
    package = name.rpartition(".")[0]
    if not package:
        return importlib.util.find_spec(name)
    above = file_of(package)
    if above is not None:
        folders = [str(above.parent)] if above.name == "__init__.py" else []
    else:
        folders = list(getattr(spec_of(package), "submodule_search_locations", None) or ())
    return PathFinder.find_spec(name, folders) if folders else None


# Kept by source, not by path: in a notebook a file is edited and imported again.


@functools.cache
def imported(name: str, gathers: bool, source: str) -> tuple[str, ...]:
    """The modules that a source imports, at the top and in functions; parts of packages too, which may be modules.

    `gathers`: whether the module is a package.
    """
    package = name if gathers else name.rpartition(".")[0]
    names: list[str] = []
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return tuple(dict.fromkeys(filter(None, names)))


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements, without a look at their expressions, which are most of a tree."""
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        for node in getattr(tree, part, ()):
            yield node
            yield from statements(node)


def digest_of(files: dict[str, Path]) -> str:
    names = {name: path.name if name in FILES else name for name, path in files.items()}
    digests = {names[name]: source_digest(source_of(name, path)) for name, path in files.items()}
    text = json.dumps(digests, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@functools.cache
def source_digest(source: str) -> str:
    """A digest of a source without comments, docstrings and blank lines; not of how it is parsed, which differs
    between versions of Python."""
    lines = source.splitlines(keepends=True)
    spans = [*docstrings(ast.parse(source), lines), *comments(source)]
    for (row, start), (last, end) in sorted(spans, reverse=True):
        if row == last:
            lines[row - 1] = lines[row - 1][:start] + lines[row - 1][end:]
        else:
            lines[row - 1 : last] = [lines[row - 1][:start] + lines[last - 1][end:]]
    kept = "\n".join(stripped for line in lines if (stripped := line.rstrip()))
    return hashlib.sha256(kept.encode()).hexdigest()[:20]


Span = tuple[tuple[int, int], tuple[int, int]]


def docstrings(tree: ast.Module, lines: list[str]) -> Iterator[Span]:
    """Strings that stand alone: docstrings, and those under a field."""

    def column(row: int, offset: int) -> int:
        return len(lines[row - 1].encode()[:offset].decode())

    for node in statements(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                last, end = node.end_lineno or node.lineno, node.end_col_offset or 0
                yield (node.lineno, column(node.lineno, node.col_offset)), (last, column(last, end))


def comments(source: str) -> Iterator[Span]:
    """From each # to the end of its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start, token.end


# --- modules from files -------------------------------------------------------------------------------------


def load(path: str | Path) -> ModuleType:
    """Import a Python file, which may import its neighbours; returns the same module until the file changes."""
    resolved = Path(path).resolve()
    source = resolved.read_bytes()
    name = FILE + hashlib.sha256(str(resolved).encode() + source).hexdigest()[:16]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(resolved.parent) not in sys.path:
        sys.path.append(str(resolved.parent))
    FILES[name], SOURCES[name] = str(resolved), importlib.util.decode_source(source)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del FILES[name], SOURCES[name], sys.modules[name]
        raise
    return module


def module(name: str) -> ModuleType:
    """Import a module by name; the current folder is on the path, as for `python -m`."""
    if not {"", ".", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def line_of(path: str | Path, error: BaseException) -> str:
    """` (line 3)` if the error was raised in the file or module, else an empty string."""
    if isinstance(error, SyntaxError):
        return ""  # its own words name the line
    wanted = {str(Path(path).resolve()), str(file_of(str(path)) if not str(path).endswith(".py") else "")}
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if str(Path(frame.filename).resolve()) in wanted]
    return f" (line {lines[-1]})" if lines else ""


# --- the way to a worker ------------------------------------------------------------------------------------


def pack(thing: Any, parts: Iterable[Any]) -> dict[str, Any]:
    """JSON data for a worker of this process: the pickled thing and what importing its parts needs.

    Unnamed parts travel by value, from the memory of this process, and keep their origin.
    """
    own = list(dict.fromkeys(parts))
    held = [(part, origin(part)) for part in own if not is_named(part)]
    files = {part.__module__: FILES[part.__module__] for part in own if part.__module__ in FILES}
    if held:
        import cloudpickle as pickler
    else:
        import pickle as pickler
    data = base64.b64encode(pickler.dumps((held, thing))).decode()
    return {"pickle": data, "files": files, "path": [each or os.getcwd() for each in sys.path]}


def unpack(message: Mapping[str, Any]) -> Any:
    """Undo `pack`; FileNotFoundError if a file was edited since."""
    import pickle

    sys.path += [folder for folder in message["path"] if folder not in sys.path]
    for name, path in message["files"].items():
        load(path)
        if name not in sys.modules:
            raise FileNotFoundError(f"{path} was edited while the run was going. Run the same command again.")
    held, thing = pickle.loads(base64.b64decode(message["pickle"]))
    for part, name in held:
        hold(part, name)
    return thing
