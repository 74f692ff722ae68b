"""index.md: a report as Markdown, with pictures."""

from __future__ import annotations

from optbench.report import claims, compare, tables
from optbench.report.compare import Comparison
from optbench.report.content import HOW_TO_READ, Content, setting
from optbench.report.markdown import bullets, code, escape, picture, slug, table
from optbench.report.problem import Problem
from optbench.wording import spoken


def index(content: Content) -> str:
    """The page."""
    parts = [
        f"# {escape(content.question)}",
        *map(paragraph, content.about),
        "The same with charts that answer to the pointer: [index.html](index.html).",
        "## Verdict",
        escape(content.headline),
        escape(content.overall),
        bullets(f"**{escape(each.name)}**: {escape(each.sentence)}" for each in content.verdicts),
        *tuning(content),
        "What weakens this:",
        bullets(map(escape, content.doubts)),
        picture(
            "overview",
            "Every task: progress at the best learning rate, and the final value at each learning rate",
        ),
        "## Table",
        tabled(tables.main(content)),
        *([tabled(tables.won(content))] if "stage" in content.stored else []),
        *map(section, content.problems),
        *paths(content),
        *ranking(content),
        "## Cost",
        tabled(tables.costs(content)),
        tabled(tables.budgets(content)),
        "## Failures",
        lost(content),
        *(["## Claims", claims.section(content.claims)] if content.claims else []),
        "## Lint",
        tabled(tables.lint(content)),
        "## How to read",
        bullets(f"**{escape(term)}**: {escape(text)}" for term, text in HOW_TO_READ.items()),
        "## Environment",
        bullets(f"{name}: {escape(text)}" for name, text in content.environment.items()),
        "## Reproduce",
        code(content.commands),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def paragraph(text: str) -> str:
    """A paragraph of the suite's docstring; a command stays one."""
    return text if text.startswith("    ") else "\n".join(map(escape, text.splitlines()))


def tuning(content: Content) -> list[str]:
    """How wide learning rates work, where any were swept."""
    said = bullets(map(escape, content.tuning))
    return ["Learning rates that reach a task's first target:", said] if said else []


def section(problem: Problem) -> str:
    """One problem: what it is, and its two figures."""
    name, metrics = slug(problem.name), " and ".join(map(spoken, problem.metrics))
    return "\n\n".join(
        [
            f"## {escape(problem.name)}",
            escape(setting(problem)),
            picture(f"{name}-curves", f"{problem.name}: {metrics} against steps"),
            picture(
                f"{name}-sensitivity",
                f"{problem.name}: final {spoken(problem.question.selection)} by learning rate",
            ),
        ]
    )


def tabled(found: tables.Table) -> str:
    """A table with its note."""
    text = table(found.header, found.rows, left=found.left)
    return f"{text}\n\n{escape(found.note)}" if found.note else text


def ranking(content: Content) -> list[str]:
    """Who stands where over all problems, in steps; the page has the other axes too."""
    told = content.standings["steps"]
    if told.refusals:
        return ["## Ranks", *map(escape, told.refusals)]
    sentences = [told.left_out, *told.sentences, *told.flips]
    drawn = picture("standings", "Performance profiles, runtime distributions and mean ranks")
    return [
        "## Ranks",
        drawn,
        tabled(tables.standing(told)),
        bullets(escape(line) for line in sentences if line),
    ]


def paths(content: Content) -> list[str]:
    """The picture of paths, where there are any."""
    if not content.terrains:
        return []
    names = " and ".join(terrain.name for terrain in content.terrains)
    return [
        "## Paths",
        picture("paths", f"{names}: every optimizer's way to the minimum"),
        escape(HOW_TO_READ["Paths"]),
    ]


def lost(content: Content) -> str:
    """Every status that occurred with its sentence, and where lanes were lost."""
    statuses = tabled(tables.statuses(content))
    sentences = bullets(escape(failure.sentence()) for failure in content.failures)
    return f"{statuses}\n\n{sentences or 'No lane diverged or failed.'}"


def moved(found: Comparison) -> str:
    """The page of `--compare`."""
    alone = [(side, "; ".join(only)) for side, only in zip("AB", found.alone, strict=True) if only]
    parts = [
        "# What moved between two results?",
        bullets(f"{side}: {escape(name)}" for side, name in zip("AB", found.names, strict=True)),
        escape(found.headline),
        table(compare.HEADER, map(compare.texts, found.moves), left=4),
        bullets(f"only in {side}: {escape(only)}" for side, only in alone),
        code([found.command]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
