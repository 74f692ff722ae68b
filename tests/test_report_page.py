"""The report's page and tables as text: structure, escaping, what is kept of an earlier report."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import optbench
from optbench import UserError
from optbench.cell import Status
from optbench.claim import Verdict, every, plots
from optbench.report import figures, panels, tex
from optbench.report.charts import POINTS, outline
from optbench.report.content import FILES, Content
from optbench.report.documents import measured
from optbench.report.figures import new_figure
from optbench.report.folder import MANIFEST, save
from optbench.report.look import MARKERS
from optbench.report.markdown import escape
from optbench.report.page import library, links
from optbench.report.panels import standings, verdict
from optbench.report.panels.paths import paths
from optbench.report.panels.verdict import GONE, ZERO, Strips
from optbench.report.parts import Chart, Charts, Picture, Table, Text
from optbench.report.selection import Selection
from optbench.report.write import files, write_claims
from optbench.store import Store
from tests import crowd
from tests.made_up import make_up
from tests.test_report import grid, index, page, shown, stored, told

TOYS = ("quadratic_10", "quadratic_100")
EVIL = """<script>alert(1)</script> "]]>' & $x_1$ | `a` \\{b}% #{7*7} {{7*7}} <!-- </style>"""


def small_content(folder, more: tuple[str, ...] = ()):
    """Two tasks, a leader, a tie, a variant, lanes that were lost; and more tasks, of no interest."""
    store = stored(
        folder,
        grid(opt="adam", level=1e-5),
        grid(opt="sgd", level=1e-3, statuses={3: Status.DIVERGED}),
        grid(opt="kron", statuses=dict.fromkeys(range(4), Status.ERROR)),
        grid("mlp", "adam", 0.05),
        grid("mlp", "sgd", 0.055),
        grid("mlp", "kron", 0.02),
        *(
            grid(task, opt, level)
            for task in more
            for opt, level in (("adam", 0.02), ("sgd", 0.03), ("kron", 0.04))
        ),
    )
    return told(store)


def evil_content(content, folder):
    """A content where everything that a user can name is named to break out."""
    path = folder / "evil.py"
    title = EVIL.replace("\\", "\\\\").replace('"', '\\"')
    path.write_text(
        f'"""{title}\n\n{title}\n"""\n'
        "from optbench.suite import load, Suite\nimport dataclasses\n"
        f"suite = dataclasses.replace(load('quickstart'), name={EVIL!r})\n"
    )
    rows = content.stored.copy()
    names = {"adam": EVIL, "sgd": f"sgd[{EVIL}]", "kron": "kron"}
    rows["optimizer"] = rows["optimizer"].map(names)
    rows["task"] = rows["task"].replace("quadratic_10", EVIL)
    for column in ("cpu_model", "platform", "schedule", "device_kind"):
        rows[column] = EVIL
    rows.loc[rows["reason"] != "", "reason"] = EVIL
    return dataclasses.replace(
        content, selection=Selection(suite=str(path)), stored=rows, claims=evil_claims(folder)
    )


def evil_claims(folder):
    """Claims of a document all of whose words break out; its figures are tested by themselves."""
    make_up(folder)
    [told] = measured(folder, ["kron"])
    words = dict.fromkeys(("claim", "statement", "documented", "measured", "why"), EVIL)
    document = dataclasses.replace(told.document, title=EVIL, source=EVIL)
    table = plots.Table(name="t", caption=EVIL, header=(EVIL, EVIL), rows=((EVIL, EVIL),))
    return (
        dataclasses.replace(
            told, document=document, rows=told.rows.assign(**words), tables=(table,), figures=()
        ),
    )


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return small_content(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def evil(content, tmp_path_factory):
    return evil_content(content, tmp_path_factory.mktemp("suite"))


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "img", "col"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module", name="text")
def page_text(content) -> str:
    return page(content)


def parts(page: str) -> str:
    """The page without the library, whose text is not ours."""
    assert page.count(library()) == 1
    return page.replace(library(), "")


def test_a_page_is_whole_and_needs_no_network(text):
    found = Page(text)
    assert not found.open
    assert found.tags[0] == ("html", {"lang": "en"})
    for tag, attributes in found.tags:
        assert tag == "a" or (attributes.get("href") or "data:,") == "data:,", "only links lead elsewhere"
        assert "src" not in attributes, (tag, attributes)
    assert "@import" not in text
    assert "url(" not in parts(text)


def test_a_page_can_be_walked_by_headings_landmarks_and_tables(text):
    found = Page(text)
    names = [tag for tag, _ in found.tags]
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert names.count(landmark) == 1, landmark
    levels = [int(tag[1]) for tag in names if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in found.all("a"):
        address = attributes["href"] or ""
        assert address.removeprefix("#") in ids or address.startswith("https://") or address in FILES
    for tag, attributes in found.tags:
        assert (attributes.get("aria-labelledby") or ids[0]) in ids, tag
    assert names.count("caption") == names.count("table") > 5
    assert all("scope" in attributes for attributes in found.all("th"))
    assert all("tabindex" in box for box in found.all("div") if "scroll" in (box.get("class") or ""))


def test_every_chart_says_what_it_shows_and_its_numbers_are_beside_it(text, content):
    found = Page(text)
    plots = [box for box in found.all("div") if box.get("class") == "plot"]
    assert {box["data-kind"] for box in plots} == {"progress", "rates", "trials", "pareto"}
    for box in plots:
        assert box["role"] == "slider"
        assert box["tabindex"] == "0"
        assert box["aria-label"]
        assert box["aria-valuetext"]
    assert text.count("quadratic_10: median loss</caption>") == 1
    assert text.count("final validation loss by learning rate</caption>") == 1


def test_the_charts_have_medians_and_bands_and_no_cells(content):
    assert [problem.name for problem in content.problems] == ["mlp", "quadratic_10"], "real tasks come first"
    data = content.charts[1]
    json.dumps(content.charts, allow_nan=False)
    lines = data["training"]["progress"][0]["lines"]
    assert [content.optimizers[line["o"]] for line in lines] == ["adam", "sgd"]
    for line in lines:
        assert len(line["x"]) == len(line["y"]) == len(line["low"]) == len(line["high"]) <= POINTS
        assert all(
            low <= y <= high for y, low, high in zip(line["y"], line["low"], line["high"], strict=True)
        )
    for line in lines:  # the curves of other trials end where the chart of learning rates has them
        tried = next(each for each in data["rates"]["lines"] if each["o"] == line["o"])
        ends = [y for x, y in zip(tried["x"], tried["y"], strict=True) if x != tried["best"]]
        assert [values[-1] for values in line["others"]] == ends
    lost = next(line for line in data["rates"]["lines"] if max(line["lost"]) > 0)
    assert lost["lanes"] == [5, 5, 5, 5]


def test_a_text_has_links_and_code_and_is_escaped():
    assert links("`a` <b>, arXiv:1412.6980") == (
        '<code>a</code> &lt;b&gt;, <a href="https://arxiv.org/abs/1412.6980">arXiv:1412.6980</a>'
    )
    assert links("`<b>`") == "<code>&lt;b&gt;</code>"


def test_markers_of_the_page_are_those_of_paper():
    shapes = [outline(marker) for marker in MARKERS]
    assert len(set(shapes)) == len(MARKERS)
    assert outline("s") == "M-1,1L1,1L1,-1L-1,-1Z"
    for shape in shapes:
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", shape)]
        assert max(map(abs, numbers)) == pytest.approx(1, abs=1e-3)


def test_verdict_intervals_lie_on_their_axis(content):
    rows = Strips(content.verdicts).rows(content.verdicts[1])
    assert [row["optimizer"] for row in rows] == ["adam", "sgd", "kron"]
    assert rows[-1]["middle_at"] == GONE
    for row in rows[:-1]:
        assert 0 < row["low_at"] <= row["middle_at"] <= row["high_at"] < GONE


def test_a_zero_keeps_away_from_the_least_value_on_a_strip(tmp_path):
    """An error of 47 % stood on the same spot as one of 0 %, which has no place on a log axis."""
    store = stored(tmp_path, grid("mlp", "adam", 1e-300), grid("mlp", "sgd", 0.47), grid("mlp", "kron", 0.5))
    [verdict] = told(store).verdicts
    for row in verdict.rows[:1]:
        row.update(middle=0.0, low=0.0, high=0.0)
    zero, least, most = Strips([verdict]).rows(verdict)
    assert zero["middle_at"] == ZERO
    assert ZERO + 10 < least["low_at"] < most["high_at"] <= 95.0


def test_one_learning_rate_is_said_to_be_no_tuning(tmp_path):
    """Its report had empty charts of tuning, said that rates were chosen, and left open that nothing was tuned."""
    found = told(stored(tmp_path, *(grid("mlp", name, trials=1) for name in ("adam", "kron"))))
    assert not found.searched
    assert found.selected == ""
    [said] = [line for line in found.caveats if "nothing was tuned" in line]
    assert "same seeds" not in " ".join(found.caveats)
    kinds = {box["data-kind"] for box in Page(parts(page(found))).all("div") if "data-kind" in box}
    assert "progress" in kinds
    assert not kinds & {"rates", "trials"}
    more = told(stored(tmp_path / "more", *(grid("mlp", name) for name in ("adam", "kron"))))
    assert more.searched
    assert said not in more.caveats


def test_names_do_not_break_out_of_the_page(evil):
    text = parts(page(evil))
    found = Page(text)
    assert not found.open
    assert "<script>alert" not in text
    assert len(found.all("script")) == 4
    assert sum(EVIL in shown for shown in found.texts["th"]) > 3
    assert EVIL in "".join(found.texts["h1"])
    data = json.loads(next(shown for shown in found.texts["script"] if shown.startswith("{")))
    assert {each["name"] for each in data["optimizers"]} == {EVIL, f"sgd[{EVIL}]", "kron"}


def test_the_page_of_claims_is_whole_and_needs_no_network(tmp_path):
    """Every claim has its sentence, its verdict and its name; every picture is in the file."""
    make_up(tmp_path / "results")
    write_claims(str(tmp_path / "results"), str(tmp_path / "out"))
    page = (tmp_path / "out" / "claims" / "index.html").read_text()
    found = Page(page)
    assert not found.open
    for asked in every():
        assert asked.statement in "".join(found.texts["th"])
        assert any(text.startswith(f"{asked.name};") for text in found.texts["code"])
    shown = [text for text in found.texts["span"] if text in set(map(str, Verdict))]
    occurring = len(found.all("dt"))
    assert len(shown) == len(every()) + occurring
    assert sum(int(text) for text in found.texts["b"]) == len(every())
    pictures = found.all("img")
    assert len(pictures) == 5
    assert all((picture["src"] or "").startswith("data:image/svg+xml;base64,") for picture in pictures)
    assert all(picture["alt"] for picture in pictures)
    assert len(page) < 1e6


@pytest.mark.slow
def test_a_report_shows_the_claims_about_its_optimizers_and_how_to_measure_them(content, tmp_path):
    """A store with all claims: of the optimizers shown, only kron has a document."""
    make_up(tmp_path)
    told = dataclasses.replace(content, claims=tuple(measured(tmp_path, content.optimizers)))
    assert "optbench claims psgd-kron" in told.commands
    found = Page(parts(page(told, files(shown(told)))))
    assert "#claims" in [link["href"] for link in found.all("a")]
    assert len(found.all("img")) == 1
    text = index(told)
    assert text.count("(psgd-kron.") == len(told.claims[0].rows)
    assert "figures/claims-kron-schedule.png" in text
    assert "optbench claims" not in "".join(content.commands)


def test_names_do_not_break_out_of_markdown_or_latex(evil):
    text = index(evil).partition("## Reproduce")[0]
    assert escape(EVIL) in text
    assert not re.search(r"(?<!\\)<(script|!--|/style)", text)
    for line in tex.table(evil).splitlines():
        if line.startswith("%"):
            continue
        body = re.sub(r"\\\\$|\$\\(geq|mu)\$", "", line)
        body = re.sub(r"\\(textbackslash|text[a-z]+|symbol|[{}&%$#_])(\{\d*\})?", "", body)
        assert body.count("{") == body.count("}")
        assert not set(body) & set('$#%~^<>|"`'), body
        assert body.count("&") in {0, *(len(columns) - 1 for columns in tex.TABLES.values())}


def test_names_do_not_break_out_of_figures(evil, tmp_path):
    ranked = evil_content(
        told(stored(tmp_path, *(grid(task, opt) for task in TOYS for opt in ("adam", "sgd")))), tmp_path
    )
    with figures.style():
        for figure in (verdict.overview(evil), standings.draw(ranked, standings.data(ranked)["steps"])):
            tree = ET.parse(io.BytesIO(figures.render(figure)["svg"]))
            assert not [element for element in tree.iter() if "script" in str(element.tag).lower()]


def test_an_earlier_report_is_replaced_and_what_is_not_ours_stays(tmp_path):
    folder = tmp_path / "report"
    save(folder, {"figures/old.svg": b"old", "figures/edited.svg": b"old", "index.md": b"one"})
    (folder / "figures/edited.svg").write_bytes(b"by hand")
    (folder / "figures/mine.svg").write_bytes(b"mine")
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"old")
    total = (folder / MANIFEST).read_text().split()[0]
    with (folder / MANIFEST).open("a") as manifest:
        manifest.write(f"{total}  ../outside.txt\n{total}  {outside}\n")
    save(folder, {"index.md": b"two"})
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {"index.md", "figures/edited.svg", "figures/mine.svg", MANIFEST}
    assert (folder / "index.md").read_bytes() == b"two"
    assert outside.read_bytes() == b"old"


def test_an_image_that_a_link_leads_out_to_is_not_deleted(tmp_path):
    folder = tmp_path / "report"
    save(folder, {"figures/old.svg": b"old"})
    (tmp_path / "kept.svg").write_bytes(b"old")
    (folder / "figures/old.svg").unlink()
    (folder / "figures/old.svg").symlink_to(tmp_path / "kept.svg")
    save(folder, {"index.md": b"two"})
    assert (tmp_path / "kept.svg").read_bytes() == b"old"


def test_a_folder_that_cannot_be_written_to_is_a_message(tmp_path):
    (tmp_path / "report").write_text("a file")
    with pytest.raises(UserError, match="Give another --out"):
        save(tmp_path / "report", {"index.md": b"one"})


def test_the_latex_table_has_a_row_for_each_optimizer(content):
    lines = tex.table(content).splitlines()
    assert lines[-1] == r"\end{tabular}\endgroup"
    assert sum(r"\midrule" in line for line in lines) == 2 * 2
    assert [line for line in lines if line.startswith(r"\textbf{adam}")]
    assert sum(line.endswith(r"\\") for line in lines) == 2 * (1 + 2 + 6)


def test_paths_are_drawn_of_what_is_stored(tmp_path):
    """A real run of a few steps: the path begins at the start and is as long as the run."""
    optbench.run(
        task=["valley", "bowl"], opt=["adam", "sgd"], lr=[0.001, 0.01], steps=60, results=str(tmp_path)
    )
    content = told(Store(tmp_path), task=("valley", "bowl"))
    valley, bowl = content.terrains
    assert (valley.name, bowl.name) == ("valley", "bowl")
    assert [path.optimizer for path in valley.paths] == ["adam", "sgd"]
    for terrain in (valley, bowl):
        for path in terrain.paths:
            np.testing.assert_allclose(path.points[0], terrain.surface.start, rtol=1e-6)
            assert len(path.points) == 61 or str(path.status) == "diverged"
            heights = terrain.surface.height(*path.points.T)
            assert heights[-1] < heights[0]
        for place in (terrain.surface.start, terrain.surface.minimum):
            assert all(low < at < high for at, (low, high) in zip(place, terrain.window, strict=True))
        assert len(terrain.contours) >= 5
    [charts, picture] = paths(dataclasses.replace(content, figures=True))
    assert charts.charts[0].data["paths"][0]["steps"][:3] == [0, 1, 2]
    with figures.style():
        assert figures.render(picture.draw())["svg"].startswith(b"<?xml")


def test_a_panel_is_one_entry_of_one_list(content, monkeypatch, tmp_path):
    """Its text, table and chart are on the page; text, table and picture in Markdown; the picture is a file."""

    def seeds(content):
        least = int(content.summary["seeds"].min())
        chart = Chart(
            "Mine",
            "trials",
            content.charts[0]["trials"],
            picture=Picture("mine", "", lambda: new_figure(2, 2)),
        )
        return [
            Text(f"At least {least} <seeds>."),
            Table("Seeds", ("a", "b"), [("x|y", "1")]),
            Charts("Note.", [chart]),
        ]

    monkeypatch.setattr(panels, "PANELS", {**panels.PANELS, "My seeds": seeds})
    markdown, found = index(content), Page(html := parts(page(content)))
    assert "## My seeds\n\nAt least 5 \\<seeds\\>." in markdown
    assert r"| x\|y | 1 |" in markdown
    assert "figures/mine.png" in markdown
    assert "<p>At least 5 &lt;seeds&gt;.</p>" in html
    assert "#my-seeds" in [link["href"] for link in found.all("a")]
    data = json.loads(next(shown for shown in found.texts["script"] if shown.startswith("{")))
    assert data["charts"][-1] == content.charts[0]["trials"]
    [section] = [each for each in shown(content) if each[0] == "My seeds"]
    assert set(files([section])) == {"figures/mine.svg", "figures/mine.png"}


# --- many cells --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_page_selects_few_rows_for_each_optimizer_on_each_task(tmp_path, monkeypatch):
    """Counted, since seconds depend on the machine: rows are grouped once, not selected for each pair."""
    selections, select = [], pd.DataFrame.__getitem__

    def counted(self, key):
        selections.append(key) if not isinstance(key, str) else None
        return select(self, key)

    def rows_selected(optimizers: int) -> int:
        folder = tmp_path / str(optimizers)
        suite = crowd.make(
            folder, tasks=("rosenbrock_2", "mlp"), optimizers=crowd.OPTIMIZERS[:optimizers], seeds=2
        )
        selections.clear()
        page(Content.of(Selection(suite=str(suite)), Store(folder / "results")))
        return len(selections)

    monkeypatch.setattr(pd.DataFrame, "__getitem__", counted)
    pairs = 2 * (9 - 3)
    assert rows_selected(9) - rows_selected(3) < 10 * pairs
