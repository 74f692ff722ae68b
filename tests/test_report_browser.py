"""The page in a real headless Chromium: offline, both colour schemes, pointer, keyboard, phone and print."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from optbench.cell import Status
from optbench.record import Surface
from optbench.report.compare import compare
from optbench.report.content import BEST, Content
from optbench.report.documents import measured
from optbench.report.panels.claims import parts_of
from optbench.report.paths import Path, Terrain
from optbench.report.selection import Selection
from optbench.report.write import comparison, files, write_claims
from optbench.stats.paired import half_width, log_gaps
from optbench.store import Store
from optbench.tasks import Plane
from tests import crowd
from tests.chromium import BROWSER, DRIVER, WIDE, Tab, browser
from tests.made_up import make_up
from tests.test_report import grid, page, stored
from tests.test_report_page import evil_content, small_content

pytestmark = [
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="no Chromium with its driver here; on Debian: apt-get install chromium chromium-driver",
    ),
    pytest.mark.xdist_group("browser"),
]
PHONE = 390
MANY = 10_000
FETCHED = (
    "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith('data:'))"
)
"""Addresses that a page asked for, pictures that it holds itself left out."""


@pytest.fixture(scope="module")
def driver():
    with browser() as found:
        yield found


@pytest.fixture
def tab(driver):
    return Tab(driver)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_content(tmp_path_factory.mktemp("small"), ("resnet_quick", "quadratic_100"))


@pytest.fixture(scope="module")
def path(small, tmp_path_factory):
    """The page of a small report, with paths and with claims of one document and their figure."""
    turn = np.linspace(0, 3, 80)[:, None]
    points = np.hstack([np.cos(turn), np.sin(turn)]) * np.exp(-turn)
    ways = tuple(Path(name, 0.1, points * scale, Status.DONE) for name, scale in (("adam", 1), ("sgd", 0.7)))
    folder = tmp_path_factory.mktemp("browser")
    make_up(folder / "results")
    claims = tuple(measured(folder / "results", ["kron"]))
    shown = dataclasses.replace(
        small, terrains=(Terrain("bowl", Surface(*Plane(function="bowl").surface()), ways),), claims=claims
    )
    file = folder / "index.html"
    file.write_text(page(shown, pictures(claims)))
    return file


def pictures(claims) -> dict[str, bytes]:
    """The figures of claims, by path."""
    return files([("Claims", parts_of(claims))])


@pytest.fixture(scope="module")
def all_claims(tmp_path_factory):
    """The page of `optbench claims --out` with every document."""
    folder = tmp_path_factory.mktemp("claims")
    make_up(folder / "results")
    write_claims(str(folder / "results"), str(folder))
    return folder / "claims" / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_it_loads_offline_in_both_schemes_fits_and_stands_out_from_its_ground(tab, path, scheme, width):
    tab.open(path, width, scheme)
    assert tab.complaints() == []
    assert contrasts(tab) >= 4.5, "of every text (WCAG 2.2, 1.4.3)"
    assert tab.run(FETCHED) == []
    assert tab.run("return document.documentElement.scrollWidth") <= width
    # What is wider than the page scrolls in a box of its own, which the keyboard reaches.
    wide = tab.run(
        "return [...document.querySelectorAll('main *')].filter((e) => e.checkVisibility()"
        " && !e.closest('.scroll, pre, svg, .hidden') && e.getBoundingClientRect().right > innerWidth + 1)"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert tab.paths() == 3


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_the_numbers_beside_a_strip_have_room(tab, path, width):
    """The hidden head gave a strip's columns a third each: `1,940 [1,874, never] steps` stood out of the page."""
    tab.open(path, width, charts=False)
    columns = tab.run(
        "return [...document.querySelectorAll('table.strips:not(.ranks) tbody tr:first-child')]"
        ".map((row) => [...row.cells].map((cell) => cell.clientWidth))"
    )
    assert columns
    assert all(numbers > 1.1 * max(name, strip) for name, strip, numbers in columns)
    cut = (
        "return [...document.querySelectorAll('table.strips tbody td:last-child')]"
        ".filter((cell) => cell.scrollWidth > cell.clientWidth + 1).length"
    )
    # A count of seeds goes to the next line.
    long = "1,940 [1,874, never] steps (4 of 5 seeds)"
    tab.run(f"document.querySelector('table.strips tbody td:last-child').textContent = '{long}'")
    assert tab.run(cut) == 0


def contrasts(tab) -> float:
    """The least contrast of a text with what it stands on."""
    pairs = tab.run("""
      const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (!/, 0\\)|transparent/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
      const texts = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility()
        && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
      return [...new Set(texts.map((e) => {
        const style = getComputedStyle(e);
        return [e instanceof SVGElement ? style.fill : style.color, ground(e)].join(';');
      }))];""")

    def light(text):
        parts = np.array([float(part) for part in text.partition("(")[2].rstrip(")").split(",")[:3]]) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    assert len(pairs) >= 4
    shades = [sorted(map(light, pair.split(";"))) for pair in pairs]
    return min((high + 0.05) / (low + 0.05) for low, high in shades)


def test_the_button_changes_the_scheme_and_stays(tab, path):
    tab.open(path)
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = tab.run(ground)
    button = tab.find("#theme")
    seen = []
    for _ in range(3):
        button.click()
        seen.append((button.get_attribute("aria-label"), tab.run(ground)))
    assert [label for label, _ in seen] == [
        "Colour scheme: light", "Colour scheme: dark", "Colour scheme: as the system",
    ]  # fmt: skip
    assert seen[0][1] == seen[2][1] == before != seen[1][1]
    # A curve has the other strength of its colour without being drawn again.
    stroke = "return getComputedStyle(document.querySelector('.mark-line path')).stroke"
    light = tab.run(stroke)
    tab.run("document.documentElement.dataset.theme = 'dark'")
    assert tab.run(stroke) != light


def test_toggles_change_what_is_drawn(tab, path):
    tab.open(path)
    before = tab.paths()
    tab.find("#controls input[name=optimizer][value='1']").click()  # adam, in the order of the catalogue
    tab.drawn()
    assert tab.paths() == before - 1
    tab.find("#none").click()
    tab.drawn()
    assert tab.paths() == 0
    tab.find("#all").click()
    tab.drawn()
    assert tab.paths() == before
    title = "[...document.querySelectorAll('.plot[data-kind=progress] svg text')].map((e) => e.textContent)"
    for value, words in (("seconds", "seconds (one lane)"), ("gradients", "gradient equivalents")):
        tab.find(f"#controls input[value={value}]").click()
        tab.drawn()
        assert words in tab.run(f"return {title}")
        assert not tab.find(f"#ranks [data-axis={value}]").get_attribute("hidden")
        assert tab.find("#ranks [data-axis=steps]").get_attribute("hidden")
    tab.find("#controls input[name=log]").click()
    tab.find("#controls input[name=metric][value='1']").click()
    tab.drawn()
    assert tab.run("return document.querySelectorAll('figure .metric')[1].textContent") == "validation error"
    tab.run(
        "const s = document.querySelector('#controls select'); s.value = '1';"
        " s.dispatchEvent(new Event('change', { bubbles: true }))"
    )
    tab.drawn()
    shown = tab.run("return [...document.querySelectorAll('#curves figure')].map((f) => f.checkVisibility())")
    assert shown == [False, True, False, False]
    assert tab.complaints() == []


def test_pointer_and_keys_read_a_chart_off(tab, path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    tab.open(path)
    for kind in ("progress", "rates", "trials", "profiles", "reached", "paths"):
        plot = tab.find(f".plot[data-kind={kind}]")
        tab.run("arguments[0].scrollIntoView({ block: 'center' })", plot)
        ActionChains(tab.driver).move_to_element(plot).perform()
        said = tab.find("#readout").text
        assert "adam" in said or "sgd" in said, kind
        assert any(character.isdigit() for character in said), kind
        assert tab.run("return document.querySelectorAll('.sign').length") >= 1, kind
        box = tab.run(
            "const r = document.querySelector('#readout').getBoundingClientRect(); return [r.left, r.right]"
        )
        assert 0 <= box[0] < box[1] <= WIDE, kind
        tab.run("scrollTo(0, 0)")
        ActionChains(tab.driver).move_to_element(tab.find("h1")).perform()
        assert not tab.find("#readout").is_displayed(), kind
        plot.send_keys(Keys.HOME)
        first = plot.get_attribute("aria-valuetext")
        plot.send_keys(Keys.ARROW_RIGHT)
        second = plot.get_attribute("aria-valuetext")
        plot.send_keys(Keys.END)
        assert "adam" in first or "sgd" in first, kind
        assert len({first, second, plot.get_attribute("aria-valuetext")}) == 3, kind
        assert plot.get_attribute("aria-valuenow") == "100", kind
        plot.send_keys(Keys.ESCAPE)
        assert not tab.find("#readout").is_displayed(), kind
    assert tab.complaints() == []


def test_the_keyboard_alone_reaches_everything_in_order(tab, path):
    from selenium.webdriver.common.keys import Keys

    tab.open(path)
    focus = "const e = document.activeElement; return e.className || e.id || e.getAttribute('href') || e.name"
    tab.press(Keys.TAB)
    assert tab.run(focus) == "skip"
    assert tab.run("return document.activeElement.getBoundingClientRect().left") >= 0
    tab.press(Keys.ENTER)
    assert tab.run("return location.hash") == "#verdict"
    tops = []
    seen = set()
    for _ in range(80):
        tab.press(Keys.TAB)
        place, name = tab.run(
            "const e = document.activeElement;"
            " return [e.closest('#controls') ? -1 : e.getBoundingClientRect().top + scrollY, e.dataset.kind ?? e.name]"
        )
        if tab.run("return document.activeElement === document.body") or tab.run(focus) == "skip":
            break  # once round
        seen.add(name)
        tops += [place] if place >= 0 else []
    assert {"optimizer", "axis", "progress", "rates"} <= seen
    # Side by side is fine (the tallest picture is 640 pixels), going back up the page is not.
    back = [(before, after) for before, after in itertools.pairwise(tops) if after < before - 700]
    assert back == [], tops


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_a_link_leads_to_a_heading_that_the_controls_do_not_cover(tab, path, width):
    """The controls stay at the top of a wide window, and lay over every heading that a link led to."""
    tab.open(path, width)
    for name in ("curves", "ranks", "cost"):
        tab.run("document.querySelector(`nav a[href='#${arguments[0]}']`).click()", name)
        seen = tab.run(
            "const h = document.querySelector(`#${arguments[0]} h2`).getBoundingClientRect();"
            " return document.elementFromPoint(h.left + 2, h.bottom - 12).tagName",
            name,
        )
        assert seen == "H2", name


def test_it_prints_on_white_with_every_chart(tab, path):
    tab.open(path, scheme="dark")
    tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert tab.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.find("nav").is_displayed()
    assert tab.run("return [...document.querySelectorAll('.plot')].every((p) => p.querySelector('svg'))")
    printed = tab.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"]
    assert base64.b64decode(printed).startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_the_page_of_claims_fits_in_both_schemes(tab, all_claims, scheme, width):
    tab.open(all_claims, width, scheme, charts=False)
    assert tab.complaints() == []
    assert contrasts(tab) >= 4.5
    assert tab.run(FETCHED) == []
    assert tab.run("return document.documentElement.scrollWidth") <= width
    # Every cell shows its text whole, and no pill reaches into its neighbour.
    cut = tab.run(
        "return [...document.querySelectorAll('.claims td, .claims th, .pill')].filter((e) => e.checkVisibility()"
        " && e.scrollWidth > e.clientWidth + 1).map((e) => e.textContent)"
    )
    assert cut == []
    pictures = tab.run(
        "return [...document.images].map((i) => [i.naturalWidth, i.getBoundingClientRect().width, i.alt.length])"
    )
    assert len(pictures) == 5
    assert all(natural > 0 and shown > 450 and alt > 20 for natural, shown, alt in pictures), (
        "readable, also small"
    )
    # Pictures are drawn for white paper; on dark ground their lightness is turned round.
    turned = tab.run("return getComputedStyle(document.images[0]).filter")
    assert (turned == "none") == (scheme == "light")


def test_names_stay_text_in_the_browser(tab, small, tmp_path):
    file = tmp_path / "index.html"
    file.write_text(page(evil_content(small, tmp_path)))
    tab.open(file)
    assert tab.complaints() == []
    assert tab.run("return document.scripts.length") == 4
    assert "<script>alert(1)</script>" in tab.find("h1").text
    assert "<script>alert(1)</script>" in tab.find("#controls").text


def test_a_comparison_fits_and_loads_offline(tab, tmp_path):
    names = [
        str(stored(tmp_path / side, grid(level=level)).folder) for side, level in (("a", 1e-3), ("b", 2e-3))
    ]
    file = tmp_path / "index.html"
    file.write_bytes(comparison(compare("results", tuple(names), Selection()))["index.html"])
    tab.size(PHONE)
    tab.driver.get(file.as_uri())
    assert tab.complaints() == []
    assert tab.run("return document.documentElement.scrollWidth") <= PHONE


# --- the table of all optimizers, and the view in the address ----------------------------------------------


def strokes(tab) -> list[str]:
    """The colours of the first chart's lines."""
    return tab.run(
        "return [...document.querySelectorAll('.plot[data-place=\"0\"] .mark-line path')]"
        ".map((path) => getComputedStyle(path).stroke)"
    )


def names_shown(tab) -> list[str]:
    return tab.run(
        "return [...document.querySelectorAll('#all-optimizers tbody tr')].filter((r) => !r.hidden)"
        ".map((r) => r.cells[0].textContent.trim())"
    )


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_the_table_is_sorted_searched_and_selected_and_the_address_has_it_all(tab, path, width):
    from selenium.webdriver.common.keys import Keys

    tab.open(path, width, charts=False)
    tab.run("history.replaceState(null, '', location.pathname)")
    assert names_shown(tab) == ["adam", "kron", "sgd"], "by mean rank"
    head = tab.find("#all-optimizers thead th button")
    head.send_keys(Keys.ENTER)
    assert tab.find("#all-optimizers thead th").get_attribute("aria-sort") == "ascending"
    head.send_keys(Keys.ENTER)
    assert names_shown(tab) == ["sgd", "kron", "adam"]
    tab.find("#find").send_keys("a")
    assert names_shown(tab) == ["adam"]
    tab.find("#find").send_keys(Keys.BACKSPACE)
    for name in ("adam", "sgd"):
        tab.find(f"#all-optimizers [aria-label='Select {name}']").send_keys(Keys.SPACE)
    assert tab.run("return location.hash") == "#&sort=-0&pick=adam+sgd"
    tab.driver.refresh()
    tab.drawn()
    assert names_shown(tab) == ["sgd", "kron", "adam"]
    rows = tab.run("return [...document.querySelectorAll('#rivals tbody tr')].map((r) => r.textContent)")
    assert len(rows) == 4
    assert tab.run("return document.documentElement.scrollWidth") <= width
    assert len(set(strokes(tab))) == 3, "two are in colour, the third is behind them, in grey"
    tab.find(".search button").click()
    assert not tab.find("#rivals").is_displayed()
    tab.run("location.hash = '#optimizers&sort=cost'")  # no number of a column
    tab.wait("!document.querySelector('#all-optimizers tbody').textContent.trim().startsWith('sgd')", 5)
    assert names_shown(tab) == ["adam", "kron", "sgd"]
    assert tab.complaints() == []


def test_two_optimizers_are_compared_as_python_compares_them(tab, path, small, tmp_path):
    tab.open(path, charts=False)
    for name in ("sgd", "adam"):
        tab.find(f"#all-optimizers [aria-label='Select {name}']").click()
    texts = tab.run(
        "return [...document.querySelectorAll('#rivals tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    best = small.standings["steps"].best
    for name, *_, ratio, verdict in texts:
        wide = best[best["problem"] == name].pivot_table("compared", "seed", "optimizer")
        gaps = log_gaps(wide["adam"].to_numpy(), wide["sgd"].to_numpy())
        middle, half = gaps.mean(), float(half_width(gaps))
        ends = [middle, middle - half, middle + half] if half > 1e-9 and len(gaps) > 1 else [middle]
        shown = [float(text) for text in re.findall(r"[\d.]+(?:e-?\d+)?", ratio.replace(",", ""))]
        assert shown[: len(ends)] == pytest.approx(10 ** np.array(ends), rel=6e-3)
        assert verdict == "adam better", "in all made-up tasks"
    (mixed := tmp_path / "mixed.html").write_text(
        re.sub(r'("reached": ?)[01]\.0', r"\g<1>0.5", path.read_text())
    )
    tab.driver.get(f"{mixed.as_uri()}#&pick=sgd+adam")
    row = tab.run("return [...document.querySelector('#rivals tbody tr').cells].map((c) => c.textContent)")
    assert row[-2:] == ["-", "adam better"], "steps of one lane are not comparable to the loss of another"


SAVED = (
    "URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; };"
    " const menu = arguments[0].closest('figure').querySelector('.tools'); menu.open = true;"
    " [...menu.querySelectorAll('button')].find((b) => b.textContent === arguments[1]).click();"
    " return new Promise((done) => setTimeout(async () => done(await window.saved?.text()), 300))"
)


def test_a_click_names_the_cell_and_the_command_and_a_chart_can_be_taken_away(tab, path, small):
    from selenium.webdriver.common.keys import Keys

    tab.open(path)
    plot = tab.find(".plot[data-kind=rates]")
    tab.run("arguments[0].scrollIntoView({ block: 'center' })", plot)
    plot.send_keys(Keys.HOME)
    plot.send_keys(Keys.ENTER)
    text, command = (tab.find(f".picked {tag}").text for tag in ("p", "code"))
    cell = text.partition("; cell ")[2].split(" ")[0]
    [row] = small.stored[small.stored["cell"] == cell].to_dict("records")
    assert text.startswith(row["optimizer"])
    assert f"--task {row['task']} --opt {row['optimizer']}" in command
    assert f"--lr {row['trial']:g}" in command
    svg, numbers = (tab.run(SAVED, plot, action) for action in ("Save as SVG", "Save numbers"))
    ET.fromstring(svg)
    assert "var(--" not in svg
    assert len(pd.read_csv(io.StringIO(numbers))) >= 4
    before = plot.size["width"]
    tab.run(SAVED, plot, "Enlarge and zoom")
    tab.drawn()
    assert plot.size["width"] > 1.8 * before
    tab.run(SAVED, tab.find(".plot[data-kind=progress]"), "Enlarge and zoom")
    tab.drawn()
    assert tab.paths() == 3 + 3 * 5, "a median and five seeds"
    tab.find("#none").click()
    tab.find("#controls input[name=optimizer][value='1']").click()
    tab.drawn()
    assert tab.paths() == 1 + 5 + 3, "of one optimizer also the other trials"
    assert tab.complaints() == []


def test_real_tasks_or_toys_alone_can_be_shown_and_a_link_to_a_section_keeps_the_view(tab, path):
    tab.open(path)
    tab.run(
        "const s = document.querySelector('#controls select'); s.value = 'real';"
        " s.dispatchEvent(new Event('change', { bubbles: true }))"
    )

    def shown(what):
        heads = (each for each in tab.driver.find_elements("css selector", f"{what} h3"))
        return [head.text.partition("\n")[0] for head in heads if head.is_displayed()]

    assert [text.split(" ")[0] for text in shown("article")] == ["mlp", "resnet_quick"]
    assert shown("#profiles figure") == [
        "Performance profiles, real tasks", "Runtime distributions, real tasks",
    ]  # fmt: skip
    tab.find("#ranks .permalink").click()
    tab.wait("location.hash === '#ranks&problem=real'")
    tab.drawn()
    assert tab.complaints() == []


def test_the_table_can_be_read_without_a_script(small):
    text = page(small)
    assert text.count("data-key=") >= 3 * 7
    assert "<button" not in text.partition('id="all-optimizers"')[2].partition("</table>")[0]


# --- forty optimizers on twelve tasks ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_ten_thousand_cells_are_a_small_page_that_shows_soon(tab, tmp_path, fresh):
    """Under 6 MB with every claim, the first paint within 2 s: the best of a few loads, as others use the machine."""
    suite = str(crowd.make(tmp_path, fresh, **({} if fresh else {"seeds": 3})))
    make_up(tmp_path / "claims")
    claims = tuple(measured(tmp_path / "claims"))
    content = Content.of(Selection(suite=suite), Store(tmp_path / "results"))
    content = dataclasses.replace(content, claims=claims)
    assert content.summary["lanes"].sum() >= MANY
    file = tmp_path / "index.html"
    file.write_text(page(content, pictures(claims)))
    size = file.stat().st_size
    first = np.inf
    for _ in range(5):
        tab.driver.get("about:blank")
        tab.size(WIDE)
        tab.driver.get(file.as_uri())
        tab.wait("performance.getEntriesByName('first-contentful-paint').length")
        first = min(
            first, tab.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        if first < 2000:
            break
    tab.drawn()
    print(json.dumps({"cells": len(content.stored), "bytes": size, "first contentful paint ms": first}))
    assert size < 6e6
    assert first < 2000
    assert tab.complaints() == []
    for width in (WIDE, PHONE):  # charts are drawn anew for it, a while later
        tab.size(width)
        tab.wait(f"document.documentElement.scrollWidth <= {width}")
    # Of forty lines six are in colour; the names of the table are those of the suite.
    found = strokes(tab)
    assert len(found) == len(crowd.OPTIMIZERS)
    assert max(map(found.count, found)) == len(crowd.OPTIMIZERS) - BEST
