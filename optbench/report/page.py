"""The pages of a report: index.md with pictures, and index.html, one file that needs no network.

On index.html panels render their parts through a template for each kind of part. Its charting library is Vega,
Vega-Lite and Vega-Embed as one script, which vl-convert bundles from its own wheel.
"""

from __future__ import annotations

import base64
import functools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import vl_convert
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from optbench.environment import cache_folder, remember, remembered, version
from optbench.fields import digest
from optbench.report.charts import appearance, short, shorts
from optbench.report.content import Content
from optbench.report.look import COLOURS, Look
from optbench.report.markdown import escape, linked, pieces, slug
from optbench.report.parts import Chart, Part, Section, all_parts, to_markdown
from optbench.stats.paired import quantile
from optbench.stats.verdict import Verdict, measured

SNIPPET = "window.vegaEmbed = vegaEmbed;"


def document(title: str, head: Iterable[str], sections: Sequence[Section]) -> bytes:
    """A Markdown page: a title, paragraphs of Markdown, and a section for each panel with something to show."""
    bodies = [(name, to_markdown(*parts)) for name, parts in sections]
    parts = [f"# {escape(title)}", *head, *(f"## {name}\n\n{body}" for name, body in bodies if body)]
    return ("\n\n".join(parts) + "\n").encode()


def index(content: Content, sections: Sequence[Section], beside: Mapping[str, str]) -> bytes:
    """index.md of a report; `beside` names what it links to."""
    links = ", ".join(f"[{name}]({place})" for name, place in beside.items())
    about = (
        text if text.startswith("    ") else "\n".join(map(linked, text.splitlines()))
        for text in content.about
    )
    numbers = f"Interactive version: [index.html](index.html). Numbers: {links}."
    return document(content.question, [*about, numbers], sections)


@functools.cache
def library() -> str:
    """JavaScript that defines vegaEmbed; safe between script tags. Bundling takes seconds, so it is cached."""
    path = cache_folder() / f"vega-{digest([SNIPPET, version('vl-convert-python')])}.js"
    text = remembered(path)
    if text is None:
        text = vl_convert.javascript_bundle(SNIPPET)
        text = text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
        remember(path, text)
    return text


@functools.cache
def templates() -> jinja2.Environment:
    """The templates; whatever a name holds, it is text."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("optbench.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    found.filters |= {"links": links, "slug": lambda title: slug(title).lower()}
    return found


def links(text: str) -> Markup:
    """Text with a link wherever it names a document, and what stands in backticks as code."""
    link = Markup('<a href="{}">{}</a>')
    shown = Markup().join(link.format(url, part) if url else part for part, url in pieces(text))
    return Markup(re.sub(r"`([^`<>]+)`", r"<code>\1</code>", str(shown)))  # of a Markup it would escape them


def render(
    template: str, sections: Sequence[Section], looks: Mapping[str, Look], files: Mapping[str, bytes],
    more: Mapping[str, Any] | None = None, **values: Any,
) -> bytes:  # fmt: skip
    """A page with its sections; `files` holds its embedded figures, `more` what its script needs beside charts."""
    charts = [part for _, parts in sections for part in all_parts(parts) if isinstance(part, Chart)]
    drawn = {name: appearance(name, look) for name, look in looks.items()}

    def show(parts: Sequence[Part]) -> Markup:
        """The HTML of some parts; templates call it for those inside a part."""
        named = [(f"{type(part).__name__.lower()}.html", part) for part in parts]
        texts = [templates().get_template(name).render(part=part, **shared) for name, part in named]
        return Markup("\n".join(texts))

    def embedded(name: str) -> str:
        """A figure as a data URL."""
        return f"data:image/svg+xml;base64,{base64.b64encode(files[f'figures/{name}.svg']).decode()}"

    shared = {"show": show, "embedded": embedded, "charts": charts, "looks": drawn}
    data = {"optimizers": [*drawn.values()], "charts": [chart.data for chart in charts], **(more or {})}
    json = htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False)
    shown = [(title, show(parts)) for title, parts in sections]
    page = templates().get_template(template)
    return (page.render(sections=shown, colours=COLOURS, data=json, **shared, **values) + "\n").encode()


def page(
    content: Content, sections: Sequence[Section], files: Mapping[str, bytes], beside: Mapping[str, str]
) -> bytes:
    """index.html of a report; `files` holds its figures by path, `beside` names what it links to."""
    most, environment = int(content.summary["seeds"].max()), content.environment
    more = {
        "problems": rivals(content),
        # Student's t at the level of every test, by the number of pairs; nothing for fewer than two.
        "quantiles": [None, None, *(short(quantile(pairs)) for pairs in range(2, most + 1))],
        "lit": [content.places[name] for name in content.lit],
    }
    day = environment["dates"].rpartition(" to ")[2].partition(" ")[0]
    facts = [*content.counts, environment["device"].partition(";")[0], day]
    return render(
        "page.html", sections, content.looks, files, more, content=content, facts=facts, beside=beside,
        library=library(),
    )  # fmt: skip


def rivals(content: Content) -> list[dict[str, Any]]:
    """For each problem what the script compares on it; for each optimizer, by its place, `at`.

    `at` has the text of the compared number, `seeds`: the number that the paired test takes, by seed, the share of them
    that `reached` a final target, and the command that computes the row. A learning rate is added to that command only
    where the command runs a plain grid.
    """
    commands = content.summary.set_index(["problem", "optimizer"])["command"]
    numbers = {
        key: {
            "seeds": dict(zip(rows["seed"].astype(str), shorts(rows["compared"]), strict=True)),
            "reached": float(rows["finish"].lt(math.inf).mean()),
        }
        for key, rows in content.standings["steps"].best.groupby(["problem", "optimizer"], sort=False)
    }

    def at(verdict: Verdict) -> dict[int, dict[str, Any]]:
        keys = [(verdict.name, row["optimizer"]) for row in verdict.rows]
        return {
            content.places[key[1]]: {
                "text": measured(row, brief=True), **numbers[key], "command": commands[key],
            }
            for key, row in zip(keys, verdict.rows, strict=True)
        }  # fmt: skip

    return [
        {
            "name": verdict.name, "toy": verdict.question.toy, "compared": verdict.compared, "staged": content.staged,
            "exact": not verdict.question.seeded, "at": at(verdict),
        }
        for verdict in content.verdicts
    ]  # fmt: skip
