"""The floors: what each module may import, and what the light commands must not."""

import ast
import json
import resource
from pathlib import Path

import pytest

from tests.process import python

ROOT = Path(__file__).parent.parent
MODULES = [
    path for folder in ("optbench", "suites", "claims") for path in sorted((ROOT / folder).rglob("*.py"))
]

ROOMS = ("optimizers/*/jax*.py", "optimizers/*/torch*.py", "optimizers/*/functional/*.py")
BOTH = ("rules/key_draws.py", "claims/programs/*.py", "conformance/jax*.py", "conformance/torch*.py")
INSIDE = (
    "conformance/__init__.py",
    "execute/worker.py",
    "execute/devices.py",
    "optimizers/**",
    "rules/*.py",
    "tasks/*.py",
)
EVERYWHERE = ("**",)
HOMES = {
    "tyro": (("cli.py",), ()),
    "rich": ((), ("live.py",)),
    "pyarrow": ((), ("resultfile.py", "store.py", "merge.py")),
    "ray": ((), ("execute/ray.py",)),
    "pandas": (("stats/*.py", "report/*.py", "report/panels/*.py"), ("api.py", "resultfile.py", "store.py")),
    "matplotlib": (
        (
            "report/*.py",
            "report/panels/*.py",
        ),
        (),
    ),
    "jinja2": (("report/page.py",), ("report/*.py",)),
    "vl_convert": (("report/page.py",), ("report/*.py",)),
    "jax": (("engines/jax*.py", "rules/optax*.py", *BOTH, *ROOMS), INSIDE),
    "torch": (("engines/torch*.py", "rules/torch*.py", *BOTH, *ROOMS), INSIDE),
    "optax": (
        ("rules/optax*.py", "claims/programs/*.py", "conformance/jax*.py", *ROOMS),
        ("optimizers/**", "rules/*.py"),
    ),
    "numpy": (
        (
            "engines/*.py",
            "record.py",
            "resultfile.py",
            "store.py",
            "testing.py",
            "conformance/*.py",
            "stats/*.py",
            "report/*.py",
            "report/panels/scaling.py",
            "exchange/*.py",
            *BOTH,
            *ROOMS,
        ),
        EVERYWHERE,
    ),
    "jaxlib": ((), EVERYWHERE),
    "scipy": ((), EVERYWHERE),
    "sklearn": ((), EVERYWHERE),
}
"""The homes of foreign packages: modules that may import one at the top, and others that may do so inside functions."""

LATE = {"np": "numpy", "pd": "pandas", "pa": "pyarrow", "pc": "pyarrow", "pq": "pyarrow"}
"""What `optbench.lazy` imports late, as if it were in a function."""

LIGHT = (
    ["--help"],
    ["list"],
    ["list", "tasks"],
    ["list", "suites"],
    ["show", "kron"],
    ["run", "--help"],
    ["claims", "--help"],
)
BANNED = ("jax", "torch", "pandas", "numpy", "pyarrow", "matplotlib", "rich", "typeguard")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_packages_are_imported_only_at_home(path):
    tree = ast.parse(path.read_text())
    for node, inside in imports(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        if names == ["optbench.lazy"]:
            names, inside = [LATE[alias.name] for alias in node.names], True
        for package in {name.partition(".")[0] for name in names} & set(HOMES):
            at_top, in_functions = HOMES[package]
            homes = at_top + in_functions if inside else at_top
            assert at(path, homes), f"line {node.lineno} imports {package}; its homes: {homes}"


def imports(tree: ast.AST, inside: bool = False):
    """The imports that are not under TYPE_CHECKING, each with whether it is inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (found for branch in node.orelse for found in imports(branch, inside))
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(node, inside or function)


def at(path: Path, homes) -> bool:
    """Whether a module is one of the homes; `*` stands for one name, `**` at the end for any names."""
    relative = path.relative_to(ROOT / "optbench" if path.is_relative_to(ROOT / "optbench") else ROOT)
    return any(
        str(relative).startswith(home[:-2])
        if home.endswith("**")
        else len(relative.parts) == home.count("/") + 1 and relative.match(home)
        for home in homes
    )


def test_the_contracts_of_pyproject_hold():
    pytest.importorskip("importlinter")
    lint = "from importlinter.cli import lint_imports_command as c; c()"
    done = python("-c", lint, "--no-cache", "--no-logo")
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_files_import_each_other_in_a_circle():
    """Imports in functions and under TYPE_CHECKING count; a package's `__init__`, which only gathers, does not."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in (ROOT / "optbench").rglob("*.py")
        if path.name != "__init__.py"
    }
    straight = {name: set(imported(path)) & set(files) - {name} for name, path in files.items()}
    reached = {name: reachable(name, straight) for name in files}
    circles = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in files
        if name in reached[name]
    }
    assert circles == set()


def imported(path: Path):
    """The names of modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


def reachable(name: str, straight: dict[str, set[str]]) -> set[str]:
    """What a module imports, itself or through others."""
    found, todo = set(), [name]
    while todo:
        new = straight[todo.pop()] - found
        found |= new
        todo += new
    return found


@pytest.fixture(scope="module")
def light_runs() -> dict[str, dict]:
    """What each light command imported, and the CPU seconds of its process."""
    return {" ".join(words): light_run(words) for words in LIGHT}


def light_run(words: list[str]) -> dict:
    return measured(f"sys.argv[1:] = {words!r}\nfrom optbench.cli import main\nmain()")


def measured(program: str) -> dict:
    """Run a program in a process of its own; its modules and CPU seconds, interpreter and exit included."""
    last = "import atexit, json, sys\natexit.register(lambda: print(json.dumps([*sys.modules]), file=sys.stderr))\n"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)  # os.times() counts in hundredths of a second
    done = python("-c", last + program)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"modules": set(json.loads(done.stderr.splitlines()[-1])), "seconds": seconds, "out": done.stdout}


def test_light_commands_import_nothing_heavy(light_runs):
    for command, run in light_runs.items():
        assert run["out"].strip(), command
        assert not run["modules"] & set(BANNED), f"optbench {command}"


def test_light_commands_are_cheap():
    """0.3 s of CPU, in the currency of this machine: one that is throttled or shared makes `import tyro` dearer too.

    On a quiet machine `python -c "import tyro"` takes 0.06 s and the most expensive command 0.13 s. Where the
    machine is slow, a command may take three times that import, run right before it: noise comes in spells.
    """
    for command in ("--help", "list", "show kron"):
        for _ in range(7):  # noise can only add
            tyro, seconds = measured("import tyro")["seconds"], light_run(command.split())["seconds"]
            if seconds <= max(0.3, 3 * tyro):
                break
        else:
            raise AssertionError(f"optbench {command}: {seconds:.2f} s of CPU; import tyro: {tyro:.2f} s")
