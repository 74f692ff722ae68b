"""The pages of the site that are generated when it is built (`make docs`): a hook of mkdocs, named in mkdocs.yml.

A page for each optimizer, wrapper and task from its docstring, its fields and its rows of docs/conformance.tsv; their
source files; the answer to "which optimizer?" from the rows of the grand comparison, where they are; and the pages
that lie above docs/. `<!-- README: Heading -->` in a page of docs/ is that section of the README.
"""

from __future__ import annotations

import csv
import functools
import html
import inspect
import logging
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equations
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from mkdocs.structure.files import File

from optbench import optimizers, pages, suite, tasks
from optbench.fields import UserError
from optbench.optimizers.wrappers import WRAPPERS
from optbench.report.page import links as prose

log = logging.getLogger("mkdocs.hooks.optbench")
ROOT = Path(__file__).parents[2]
GRAND = ROOT / "reports" / "grand" / "rows"
"""The rows of `optbench run --suite grand`."""
ABOVE = {
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the repository's top, and what they are called on the site."""
SOURCES = ("optimizers", "tasks")
"""The folders of the package whose files are shown."""


# Events of mkdocs, in the order in which they come.


def on_config(config: Any) -> None:
    """Put the generated pages into the navigation, below the sections that mkdocs.yml names by a folder."""
    listed = {
        "optimizers/": [
            "optimizers/index.md",
            *(f"optimizers/{name}.md" for name in sorted(optimizers.names())),
            {"Wrappers": [f"wrappers/{name}.md" for name in WRAPPERS]},
        ],
        "tasks/": ["tasks/index.md", *(f"tasks/{name}.md" for name in task_classes()), "tasks/suites.md"],
    }
    for entry in config.nav:
        [(title, target)] = entry.items()
        entry[title] = listed.get(target, target) if isinstance(target, str) else target


def on_files(files: Any, config: Any) -> None:
    """Add the generated pages, and the files of the sample report as they are."""
    for uri, text in written():
        files.append(File.generated(config, uri, content=text))
    for path in (ROOT / "reports").rglob("*"):
        uri = path.relative_to(ROOT).as_posix()
        if path.suffix in (".html", ".svg", ".png", ".csv", ".tex") and not path.is_relative_to(GRAND):
            files.append(File.generated(config, uri, abs_src_path=str(path)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    return re.sub(r"<!-- README: (.+?) -->", lambda match: section(match[1]), markdown)


def on_post_build(config: Any) -> None:
    """Also give the search its index as a script, which a page that is read as a file can load."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    index.with_suffix(".js").write_text(f"var __index = {index.read_text()}")


# Pages.


def written() -> Iterator[tuple[str, str]]:
    """Each generated page and its Markdown."""
    yield "which.md", which(GRAND)
    yield (
        "optimizers/index.md",
        template("optimizers").render(rows=pages.listing("optimizers"), wrappers=WRAPPERS),
    )
    yield "tasks/index.md", template("tasks").render(names=tasks.names(), rows=pages.listing("tasks"))
    yield (
        "tasks/suites.md",
        template("suites").render(texts={name: suite.docstring(name) for name in suite.names()}),
    )
    for name, optimizer in optimizers.names().items():
        yield f"optimizers/{name}.md", thing_page(optimizer, pages.page(name)[1])
    for name, wrapper in WRAPPERS.items():  # one may have the name of an optimizer
        yield f"wrappers/{name}.md", thing_page(wrapper, pages.wrapper_page(name, name)[1])
    for name in task_classes():
        yield f"tasks/{name}.md", thing_page(tasks.names()[name], pages.page(name)[1])
    for above, below in ABOVE.items():
        yield below, relinked((ROOT / above).read_text())
    for path in shown_sources():
        yield f"source/{path}.md", source_page(path)


def thing_page(thing: Any, facts: dict[str, Any]) -> str:
    """The page of an optimizer, wrapper or task: what `optbench show` prints, typeset."""
    name = facts["name"]
    summary, body = typeset(facts["description"])
    return template("thing").render(
        facts, summary=summary, body=body, found=conformance().get(name, []), standing=standings().get(name),
        imports=imports(thing), files=files_of(type(thing)), presets=getattr(thing, "presets", {}),
        offered=pages.offered, thing=thing,
        layouts=pages.layouts(thing) if facts["kind"] == "optimizer" else [],
    )  # fmt: skip


def typeset(text: str) -> tuple[Markup, Markup]:
    """The first sentence of a docstring, and what follows: equations as MathML, the rest as paragraphs.

    Where a docstring is equations only, Python takes their indentation away; then they are told by their relations.
    """
    first, *parts = text.split("\n\n")
    bare = not any(part.startswith("    ") for part in parts)
    shown = []
    for part in parts:
        if part.startswith("    ") or (bare and equations.RELATION.search(part.partition("\n")[0])):
            shown.append(equations.block(textwrap.dedent(part).splitlines(), prose))
        else:
            shown.append(f"<p>{prose(part)}</p>")
    return prose(first), Markup("\n".join(shown))


def which(folder: Path, asked: str = "grand") -> str:
    """The answer of the grand comparison, written from its rows; without them, how to get them and what is declared."""
    rows = [
        {"name": name, "state": pages.state_ratio(optimizer), "method": optimizer}
        for name, optimizer in optimizers.names().items()
    ]
    return template("which").render(
        rows=rows, found=comparison(folder, asked), report=(folder.parent / "index.html").is_file(), ABOUT=section,
    )  # fmt: skip


@functools.cache
def content(folder: Path, asked: str) -> Any:
    """What a report on these rows contains; None where there are none, or not all of them yet."""
    if not folder.is_dir():
        return None
    from optbench.report.content import Content
    from optbench.report.selection import Selection
    from optbench.store import Store

    try:
        return Content.of(Selection(suite=asked, results=str(folder)), Store(folder))
    except UserError as error:
        log.info("%s is not shown: %s", folder, error)
        return None


def comparison(folder: Path, asked: str) -> str | None:
    """The report's verdict and ranks as Markdown, without their pictures."""
    shown = content(folder, asked)
    if shown is None:
        return None
    from optbench.report.panels import PANELS
    from optbench.report.parts import to_markdown

    texts = (f"## {title}\n\n{to_markdown(*PANELS[title](shown))}" for title in ("Verdict", "Ranks"))
    text = re.sub(r"\[!\[.*?\]\(.*?\)\]\(.*?\)", "", "\n\n".join(texts))
    return text.replace("<details>", '<details markdown="1">')


@functools.cache
def standings() -> dict[str, list[tuple[str, str]]]:
    """Each optimizer's row of the grand comparison: the names of its columns, and what they hold."""
    shown = content(GRAND, "grand")
    return {} if shown is None else standing_rows(shown)


def standing_rows(shown: Any) -> dict[str, list[tuple[str, str]]]:
    """The rows of a report's scores by the name of a method."""
    from optbench.report.panels.standings import scores

    standing = shown.standings["steps"]
    if standing.refusals:
        return {}
    table = scores(standing)
    return {
        re.sub(r"\[.*\]", "", row[0]): list(zip(table.header, row, strict=True)) for row in table.rows
    }  # what is compared as lion[weight_decay=0] is shown on the page of lion


@functools.cache
def conformance() -> dict[str, list[dict[str, str]]]:
    """The rows of docs/conformance.tsv, by optimizer."""
    found: dict[str, list[dict[str, str]]] = {}
    with (ROOT / "docs" / "conformance.tsv").open(newline="") as file:
        for name, *row in csv.reader(file, delimiter="\t"):
            found.setdefault(name, []).append(
                dict(zip(("framework", "check", "outcome", "why"), row, strict=True))
            )
    return found


def task_classes() -> dict[str, Any]:
    """A task for each class, under the class's name."""
    return {task.name: task for task in map(type, tasks.names().values())}


def imports(thing: Any) -> list[str]:
    """How a method is imported into a training loop, for each framework in which it can be used alone."""
    package = type(thing).__module__
    lines = []
    for framework, attribute in (("jax", thing.name), ("torch", type(thing).__name__)):
        home = package if package.rpartition(".")[0] == "optbench.optimizers" else package.rpartition(".")[0]
        path = ROOT.joinpath(*home.split("."), f"{framework}.py")
        if path.is_file() and hasattr(__import__(f"{home}.{framework}", fromlist=["x"]), attribute):
            lines.append(f"from {home}.{framework} import {attribute}")
    return lines


def files_of(cls: type) -> list[str]:
    """The files that define a thing: its own, or all of its folder."""
    path = Path(inspect.getfile(cls))
    found = sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]
    return [each.relative_to(ROOT).as_posix() for each in found]


def shown_sources() -> list[str]:
    paths = (path for folder in SOURCES for path in sorted((ROOT / "optbench" / folder).rglob("*.py")))
    return [path.relative_to(ROOT).as_posix() for path in paths]


def source_page(path: str) -> str:
    text = (ROOT / path).read_text()
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n{fence}python\n{text}{fence}\n"


def section(heading: str) -> str:
    """A section of the README, with its heading."""
    found = re.search(
        rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", (ROOT / "README.md").read_text(), re.M | re.S
    )
    if found is None:
        raise ValueError(f"the README has no section {heading!r}")
    return relinked(found[0])


def relinked(text: str) -> str:
    """Markdown of the repository's top with links that hold on the site; those to what is not on it become text."""

    def link(match: re.Match[str]) -> str:
        name, target = match[1], match[2]
        if target.startswith(("http", "#")):
            return match[0]
        if target.startswith("docs/"):
            return f"[{name.removeprefix('docs/')}]({target.removeprefix('docs/')})"
        if target.startswith("reports/"):
            return f"[{name}]({target.replace('index.md', 'index.html')})"
        shown = ABOVE.get(target) or (f"source/{target}.md" if target in shown_sources() else None)
        return f"[{name}]({shown})" if shown else name

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, text)


@functools.cache
def template(name: str) -> Any:
    folder = FileSystemLoader(Path(__file__).parent)
    made = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters["prose"] = prose
    made.filters["breakable"] = lambda name: Markup(html.escape(name).replace("_", "_<wbr>"))
    return made.get_template(f"{name}.md.j2")
