"""The documentation site: equations are typeset without loss, examples run, pages stand in a browser."""

import importlib
import inspect
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from optbench import optimizers, tasks
from optbench.optimizers.wrappers import WRAPPERS
from tests.chromium import BROWSER, DRIVER, Tab, browser
from tests.test_outside import output

ROOT = Path(__file__).parent.parent
NAMED = {
    **optimizers.names(), **{task.name: task for task in tasks.names().values()},
    **{f"+{name}": wrapper for name, wrapper in WRAPPERS.items()},
}  # fmt: skip
SITE = ROOT / "docs" / "site"


def loaded(name: str):
    """A module of docs/site, as mkdocs loads it."""
    sys.path.insert(0, str(SITE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SITE))


equations = loaded("equations")
BACK = {
    **{sign: text.replace("&lt;", "<").replace("&gt;", ">") for text, sign in equations.SIGNS.items()},
    **{letter: name for name, letter in equations.GREEK.items()},
    "⟨": "<", "⟩": ">", "′": "'", "∑": "sum", "…": "..",
}  # fmt: skip


def source(element: ET.Element) -> str:
    """The notation from which an element of MathML is drawn, read back without the typesetter."""
    parts = [source(child) for child in element]
    match element.tag:
        case "mfrac":
            return f"{parts[0]} / {parts[1]}"
        case "msqrt":
            return f"sqrt({parts[0]})"
        case "mroot":
            return f"cbrt({parts[0]})"
        case "msup":
            return parts[0] + ("'" if parts[1] == "'" else f"^{parts[1]}")
        case "msubsup":
            return f"{parts[0]}_{parts[1]}^{parts[2]}"
        case "msub":
            return f"{parts[0]}_{parts[1]}"
        case "mspace":
            return " "
    text = "".join(parts) if parts else (element.text or "").strip()
    return f"({text})" if element.get("class") == "whole" else BACK.get(text, text)


def plain(text: str) -> str:
    """Notation without what is only layout: spaces, code marks, kinds of brackets, the line of an index."""
    return re.sub(r"[\s`_]", "", text.replace("...", "..").translate(str.maketrans("{}", "()")))


def typeset_equations(doc: str) -> list[str]:
    pages = loaded("pages")
    return re.findall(r"<math.*?</math>", pages.typeset(doc)[1])


@pytest.mark.parametrize("name", NAMED)
def test_the_equations_of_a_docstring_are_drawn_and_can_be_read_back(name):
    pytest.importorskip("mkdocs", reason="pip install -e '.[docs]'")
    drawn = typeset_equations(inspect.getdoc(type(NAMED[name])) or "")
    assert drawn, "an indented block of equations is missing in the docstring"
    for markup in drawn:
        element = ET.fromstring(markup)
        assert plain(source(element)) == plain(element.attrib["data-source"])


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("y = a b / c d", "<mfrac"),
        ("y = max(a, b)^2 / |x|_1", "<mfrac"),
        ("y = <g, theta> / (a / b / c)", "⟨"),
        ("f(x) = x^T A x / 2", "<mi>f</mi><mrow>"),
        ("y = G~ - U' x^-(p + 1) / x_{i+1}^2", "msubsup"),
    ],
)
def test_an_equation_is_read_back_as_it_was_written(text, markup):
    drawn = equations.typeset(text)
    assert markup in drawn
    assert plain(source(ET.fromstring(drawn))) == plain(text)


def test_products_and_quotients_go_from_left_to_right():
    fraction = ET.fromstring(equations.typeset("y = a b / c d")).find("mfrac")
    assert fraction is not None
    assert [plain(source(part)) for part in fraction] == ["ab", "c"]


@pytest.mark.parametrize("text", ["y = (a", "y = a)", "y = a $ b", "y = a ^ "])
def test_what_is_not_of_the_notation_is_refused_with_the_equation(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        equations.typeset(text)


@pytest.mark.parametrize("page", ["index", "own", "reading", "gpus", "which"])
def test_sections_of_the_readme_and_links_of_its_pages_are_found(page):
    pages = loaded("pages")
    path = ROOT / "docs" / f"{page}.md"
    text = pages.on_page_markdown(path.read_text()) if path.is_file() else pages.which(Path("nowhere"))
    assert "<!-- README" not in text
    assert not re.search(r"\]\((docs|optbench|tests|reports/\S+\.md)", text), "links are those of the site"


@pytest.mark.slow
def test_each_page_is_written_once_with_its_equations():
    pages = loaded("pages")
    names = [name for name, _ in pages.written()]
    assert len(names) == len(set(names))
    for name, text in pages.written():
        if name.startswith(("optimizers/", "wrappers/", "tasks/")) and name.split("/")[1] not in (
            "index.md",
            "suites.md",
        ):
            assert "<math" in text, name


def test_without_rows_the_answer_is_how_to_get_them():
    text = loaded("pages").which(Path("nowhere"))
    assert "`optbench run --suite grand --results reports/grand/rows`" in text
    assert "has not been run to its end" in text


@pytest.mark.slow
def test_with_rows_the_answer_is_the_report_s_verdict_with_its_uncertainty(tmp_path):
    tasks = "quadratic_10,rosenbrock_2"
    small = "--seeds 3 --trials 3 --steps 50 --jobs 1"
    output(tmp_path, f"optbench run --task {tasks} --opt 'adam[b1=0.8],sgd' {small} --results rows")
    pages = loaded("pages")
    text = pages.which(tmp_path / "rows", "quickstart")
    shown = pages.content(tmp_path / "rows", "quickstart")
    assert "has not been run to its end" not in text
    assert "## Verdict" in text
    assert "## Ranks" in text
    for verdict in shown.verdicts:
        assert verdict.name in text
    columns, numbers = zip(*pages.standing_rows(shown)["adam"], strict=True)
    assert columns[:3] == ("optimizer", "mean rank", "over tasks")
    assert numbers[0] == "adam[b1=0.8]"
    assert re.fullmatch(r"\[[\d.]+, [\d.]+\]", numbers[2]), "a rank has its interval over problems"


@pytest.mark.slow
@pytest.mark.timeout(900)  # eight programs, on a machine that may be busy
def test_the_five_minutes_run_block_by_block(tmp_path):
    text = (ROOT / "docs" / "index.md").read_text()
    printed = ""
    for language, block in re.findall(r"```(bash|python)\n(.*?)```", text, re.S):
        if language == "python":
            name = block.splitlines()[0].removeprefix("# ")
            (tmp_path / name).write_text(block)
            printed += output(tmp_path, f"python {name}") if name == "script.py" else ""
        else:
            for line in block.splitlines():
                if line.startswith("optbench try"):  # the code is the verdict; 2 would be an error
                    printed += output(
                        tmp_path, f"{line} --tasks 'quadratic[noise=0.1]' --budget 5s", 0, 1, 3, 4, 5
                    )
                elif line.startswith("optbench run --task"):
                    printed += output(tmp_path, f"{line} --steps 30")
                elif not line.startswith("pip "):
                    printed += output(tmp_path, line)
    assert (tmp_path / "reports" / "quickstart" / "index.html").is_file()
    for name in ("muon", "mine.py:heavy_ball", "to compute"):
        assert name in printed


def links_into_nowhere(site: Path) -> list[tuple[str, str]]:
    """Links of built pages to files that are not there, and what is fetched from elsewhere."""
    pages = {
        path: path.read_text()
        for path in site.rglob("*.html")
        if path.relative_to(site).parts[0] != "reports"
    }
    del pages[site / "404.html"]  # wherever it is shown, its links are those of the server's root
    own, foreign = (
        r'(?:href|src)="(?!https?:)([^"#]+)',
        r'<(?:link|script|img)[^>]+(?:href|src)="(https?:[^"]+)',
    )
    found = [(path, target) for path, text in pages.items() for target in re.findall(own, text)]
    fetched = [(path.name, target) for path, text in pages.items() for target in re.findall(foreign, text)]
    return fetched + [(path.name, target) for path, target in found if not (path.parent / target).exists()]


@pytest.mark.slow
@pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")
def test_the_site_builds_without_a_warning_and_fits_a_phone_and_a_screen(tmp_path):
    pytest.importorskip("material", reason="pip install -e '.[docs]'")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, timeout=280,
    )  # fmt: skip
    assert links_into_nowhere(tmp_path) == []
    with browser() as driver:
        tab = Tab(driver)
        for page in ("index", "which", "optimizers/soap", "optimizers/kron_dq", "tasks/transformer", "own"):
            for width, scheme in ((1280, "light"), (390, "dark")):
                tab.open(tmp_path / f"{page}.html", width=width, scheme=scheme, charts=False)
                assert tab.run("return document.documentElement.scrollWidth") <= width
                assert tab.complaints() == []
        tab.open(tmp_path / "optimizers" / "soap.html", charts=False)
        height = tab.run("return document.querySelector('math mfrac').getBoundingClientRect().height")
        assert height > 25, "a fraction has two floors"
