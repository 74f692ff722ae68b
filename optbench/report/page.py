"""Pages, each one file that needs no network. Panels render their parts through a template for each kind of part."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from optbench.report import rivals
from optbench.report.charts import appearance
from optbench.report.content import Content
from optbench.report.links import pieces
from optbench.report.look import COLOURS, Look
from optbench.report.markdown import slug
from optbench.report.parts import Chart, Part, Section, all_parts
from optbench.report.vega import library
from optbench.wording import count


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
    more: Mapping[str, Any] = MappingProxyType({}), **values: Any,
) -> bytes:  # fmt: skip
    """A page with its sections; `files` holds its embedded figures, `more` what its script needs beside charts."""
    charts = [part for _, parts in sections for part in all_parts(parts) if isinstance(part, Chart)]
    drawn = [appearance(name, look) for name, look in looks.items()]

    def show(parts: Sequence[Part]) -> Markup:
        """The HTML of some parts; templates call it for those inside a part."""
        named = [(f"{type(part).__name__.lower()}.html", part) for part in parts]
        texts = [templates().get_template(name).render(part=part, **shared) for name, part in named]
        return Markup("\n".join(texts))

    def embedded(name: str) -> str:
        """A figure as a data URL."""
        return f"data:image/svg+xml;base64,{base64.b64encode(files[f'figures/{name}.svg']).decode()}"

    shared = {
        "show": show, "embedded": embedded, "charts": charts, "looks": dict(zip(looks, drawn, strict=True)),
    }  # fmt: skip
    data = {"optimizers": drawn, "charts": [chart.data for chart in charts], **more}
    json = htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False)
    shown = [(title, show(parts)) for title, parts in sections]
    text = templates().get_template(template).render(
        sections=shown, colours=COLOURS, data=json, **shared, **values,
    )  # fmt: skip
    return (text + "\n").encode()


def page(
    content: Content, sections: Sequence[Section], files: Mapping[str, bytes], beside: Mapping[str, str]
) -> bytes:
    """index.html of a report; `files` holds its figures by path, `beside` names what it links to."""
    more = {
        "problems": rivals.of_problems(content), "quantiles": rivals.quantiles(content),
        "lit": [content.places[name] for name in content.lit],
    }  # fmt: skip
    return render(
        "page.html", sections, content.looks, files, more, content=content, facts=facts(content),
        beside=beside, library=library(),
    )  # fmt: skip


def facts(content: Content) -> list[str]:
    return [
        count(content.stored["task"].nunique(), "task"), count(len(content.optimizers), "optimizer"),
        count(int(content.summary["lanes"].sum()), "cell"), content.environment["device"].partition(";")[0],
        content.environment["dates"].rpartition(" to ")[2].partition(" ")[0],
    ]  # fmt: skip
