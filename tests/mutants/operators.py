"""Samples mutants by operators: arithmetic, comparisons, constants, indices. `python -m tests.mutants.operators`.

It rewrites `sampled.py`, from a seed and so many of each module; nothing is picked by hand.
"""

from __future__ import annotations

import ast
import random

from tests.mutants import HERE, ROOT

SEED = 12
ROOMS = "optbench.optimizers."
MODULES = {
    "kron.jax": (1, "kron"),
    "kron.jax_factors": (3, "kron,affine"),
    "kron.jax_triangular": (1, "kron"),
    "kron.torch": (3, "kron"),
    "kron.torch_kron_torch": (1, "kron"),
    "psgd.jax": (2, "xmat,lra,affine,kron"),
    "psgd.torch": (2, "xmat,lra,affine"),
    "psgd.torch_base": (1, "kron,xmat"),
    "psgd.groups": (1, "xmat,lra"),
    "xmat": (2, "xmat"),
    "lra": (2, "lra"),
    "affine": (3, "affine"),
    "esgd.jax": (1, "esgd"),
    "esgd.torch": (1, "esgd"),
    "expectigrad.jax": (1, "expectigrad"),
    "expectigrad.torch": (1, "expectigrad"),
    "novograd.jax": (1, "novograd"),
    "novograd.torch": (1, "novograd"),
    "ngc.jax": (1, "ngc_adam,ngc_nag,ngc_sgd"),
    "ngc.torch": (1, "ngc_adam,ngc_nag,ngc_sgd"),
    "optbench.rules.optax_transform": (1, "ngc_adam,expectigrad,esgd"),
    "optbench.rules.torch": (1, "adam,esgd,lbfgs"),
    "optbench.cell": (2, "adam"),
    "optbench.engines.jax_program": (1, "adam"),
    "optbench.engines.torch_ensemble": (1, "adam"),
}
"""How many of each, and the optimizers that it concerns."""
ONLY = {"optbench.cell": ("factors",)}
SKIPPED = (
    "check",
    "require",
    "raise",
    "takes",
    "hyper",
    "field",
    "documented",
    "finfo",
    "ValueError",
    "RuntimeError",
)
SWAPS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.Pow: "*", ast.MatMult: "-"}
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.MatMult: "@"}
TURNS = {ast.Lt: ("<", ">="), ast.Gt: (">", "<="), ast.LtE: ("<=", ">"), ast.GtE: (">=", "<")}


def candidates(tree: ast.Module, text: str, names: tuple[str, ...]) -> list[tuple[int, int, str, str]]:
    """Start, end, replacement and name of the operator, for each edit inside a function."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))

    def at(node: ast.AST, end: bool = False) -> int:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)
        return starts[line - 1] + column

    data, found = text.encode(), []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.arguments):
            return
        if isinstance(node, ast.Call) and any(word in ast.unparse(node.func) for word in SKIPPED):
            return
        if isinstance(node, ast.FunctionDef):
            if names and node.name not in names and not inside:
                return
            for child in node.body:
                visit(child, True)
            return
        if inside:
            if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
                begin, end = at(node.left, True), at(node.right)
                sign = SIGNS[type(node.op)].encode()
                where = data.find(sign, begin, end)
                found.append((where, where + len(sign), SWAPS[type(node.op)], "arithmetic"))
            elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNS:
                sign, other = TURNS[type(node.ops[0])]
                where = data.find(sign.encode(), at(node.left, True), at(node.comparators[0]))
                found.append((where, where + len(sign), other, "comparison"))
            elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
                kind = "constant"
                new = str(node.value + 1) if isinstance(node.value, int) else str(node.value * 1.1)
                found.append((at(node), at(node, True), new, kind))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return [each for each in found if each[0] >= 0]


def snippet(text: str, start: int, end: int, new: str) -> tuple[str, str]:
    """The lines around an edit, as many as make them unique, before and after it."""
    data = text.encode()
    first = data.rfind(b"\n", 0, start) + 1
    last = data.find(b"\n", end)
    while data.count(data[first:last]) > 1:
        first = data.rfind(b"\n", 0, first - 1) + 1
    return data[first:last].decode(), (data[first:start] + new.encode() + data[end:last]).decode()


def main() -> None:
    """Write `sampled.py`."""
    lines = [
        '"""Mutants by operators, sampled by `python -m tests.mutants.operators`; written by it, not by hand."""',
        "# ruff: noqa: E501",
        "",
        "from tests.mutants import Mutant",
        "",
        "MUTANTS = [",
    ]
    for module, (count, opt) in MODULES.items():
        full = module if module.startswith("optbench.") else ROOMS + module
        path = ROOT / (full.replace(".", "/") + ".py")
        path = path if path.is_file() else ROOT / full.replace(".", "/") / "__init__.py"
        text = path.read_text()
        every = candidates(ast.parse(text), text, ONLY.get(module, ()))
        for start, end, new, kind in random.Random(f"{SEED}/{module}").sample(every, min(count, len(every))):
            old_text, new_text = snippet(text, start, end, new)
            line = text.encode()[:start].count(b"\n") + 1
            short = full.removeprefix("optbench.").removeprefix("optimizers.")
            lines.append(
                f"    Mutant({f'{short}: {kind} {line}'!r}, {full!r}, {old_text!r}, {new_text!r}, {opt!r}),"
            )
    (HERE / "sampled.py").write_text("\n".join([*lines, "]"]) + "\n")


if __name__ == "__main__":
    main()
