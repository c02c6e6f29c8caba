"""The page in a real browser: clicks, keys, sorting, filters, both themes, no network."""

import re
import shutil
import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from measures_made import make_measured_content
from test_page import NASTY, make_nasty, make_once

from tlcnn.report.figures.style import ReportFigure
from tlcnn.report.page import Picture, render_page
from tlcnn.report.page_data import make_page_data

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def find_browser() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if path is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of playwright's own imports
        api = pytest.importorskip("playwright.sync_api")
        with api.sync_playwright() as driver:
            started = driver.chromium.launch(executable_path=path, args=list(FLAGS))
            yield started
            started.close()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return make_once(tmp_path_factory)


@pytest.fixture(scope="module")
def file(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "index.html"
    path.write_text(render_page(content, make_page_data(content)), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser):
    """A function that opens a file; at the end nothing may have been said or asked for."""
    found, contexts = [], []

    def open_page(path, *, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("console", lambda m: found.append(m.text) if m.type in ("error", "warning") else 0)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("dialog", lambda dialog: (found.append("a dialog"), dialog.dismiss()))
        allowed = ("file:", "data:")
        page.on("request", lambda r: None if r.url.startswith(allowed) else found.append(r.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert found == []


def read_column(page, table, name):
    box = page.locator(f'[data-table="{table}"]')
    heads = [text.strip() for text in box.locator("thead th").all_inner_texts()]
    at = heads.index(name)
    return box.locator("tbody tr").evaluate_all(
        "(rows, at) => rows.map((row) => row.cells[at].textContent.trim())", at
    )


def test_a_cell_opens_its_runs_and_escape_closes_them(visit, file):
    page = visit(file)
    page.locator(".cell").first.hover()
    tip = page.locator("#tip")
    assert tip.is_visible() and "95 % interval" in tip.inner_text()
    page.locator(".cell.best").first.click()
    panel = page.locator("#panel")
    assert panel.is_visible() and not tip.is_visible()
    assert panel.locator(".tabs button").count() == 2
    assert panel.locator("svg.curve polyline").count() == 3
    assert panel.locator(".confusion tbody tr").count() == 7
    assert "Settings that differ between runs" in panel.inner_text()
    first = panel.locator(".confusion").inner_text()
    panel.locator(".tabs button").nth(1).click()
    assert panel.locator('[aria-current="true"]').inner_text().startswith("seed 1")
    assert panel.locator(".confusion").inner_text() != first
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert page.evaluate("document.activeElement.classList.contains('cell')")


def test_tables_fit_a_laptop_and_those_that_do_not_fit_scroll_by_key(visit, file):
    wide = """(regions) => regions.filter((region) => region.scrollWidth > region.clientWidth)
        .map((region) => [region.ariaLabel, region.getAttribute("role"), region.tabIndex])"""
    assert visit(file, width=1280).locator(".scroll").evaluate_all(wide) == []
    page = visit(file, width=700)
    assert ["Comparisons", "region", 0] in page.locator(".scroll").evaluate_all(wide)
    region = page.get_by_role("region", name="Comparisons", exact=True)
    region.press("ArrowRight")
    page.wait_for_function("(node) => node.scrollLeft > 0", arg=region.element_handle())


def test_a_run_shows_its_log_and_warnings(visit, file):
    page = visit(file)
    page.locator('[data-opens="run:1"]').first.click()
    panel = page.locator("#panel")
    assert "the last line" in panel.locator("pre").last.inner_text()
    assert "an odd thing" in panel.locator(".warnings").inner_text()
    page.locator("#close").click()
    assert not panel.is_visible()


def test_the_keyboard_reaches_the_grid(visit, file):
    page = visit(file)
    page.locator(".cell").first.focus()
    page.keyboard.press("ArrowRight")
    point = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert point.startswith("k 5, j 1:") and page.locator("#tip").is_visible()
    page.keyboard.press("Enter")
    assert page.locator("#panel").is_visible()


def test_tables_sort_both_ways_and_filter(visit, file):
    page = visit(file)
    name = "balanced accuracy, %"
    box = page.locator('[data-table="cells"]')
    head = box.locator("thead th", has_text=re.compile(f"^{name}$"))
    numbers = [float(text.split()[0]) for text in read_column(page, "cells", name)]
    assert numbers != sorted(numbers)
    head.locator("button").press("Enter")
    numbers = [float(text.split()[0]) for text in read_column(page, "cells", name)]
    assert numbers == sorted(numbers) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    numbers = [float(text.split()[0]) for text in read_column(page, "cells", name)]
    assert numbers == sorted(numbers)[::-1] and head.get_attribute("aria-sort") == "descending"
    total = int(box.get_attribute("data-total"))
    box.get_by_label("dataset").select_option("lung")
    kept = read_column(page, "cells", "dataset")
    assert set(kept) == {"lung"}
    assert box.locator("output").inner_text() == f"{len(kept)} of {total} cells"
    box.locator("input").fill("random → ham")
    assert len(read_column(page, "cells", "dataset")) == 1


def test_what_is_missing_sorts_last_both_ways(visit, file):
    page = visit(file)
    box = page.locator('[data-table="runs"]')
    head = box.locator("thead th", has_text=re.compile("^macro AUROC$"))
    box.locator(".more button").click()
    for _ in range(2):
        head.locator("button").click()
        assert read_column(page, "runs", "macro AUROC")[-2:] == ["–", "–"]


def test_the_theme_is_the_systems_until_it_is_chosen(visit, file):
    page = visit(file, color_scheme="dark")
    shade = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(shade)
    page.locator("#theme").click()
    assert page.evaluate(shade) != dark
    page.reload()
    assert page.evaluate(shade) != dark  # it is remembered


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_on_the_grid_can_be_read(visit, file, scheme):
    page = visit(file, color_scheme=scheme)
    colours = page.locator(".cell").evaluate_all(
        """(cells) => cells.map((cell) => {
          const style = getComputedStyle(cell);
          return [style.color, style.backgroundColor];
        })"""
    )
    assert min(compute_contrast(*map(parse_colour, pair)) for pair in colours) >= 4.5


def parse_colour(text):
    numbers = [float(number) for number in re.findall(r"[\d.]+", text)][:3]
    return [n / 255 for n in numbers] if text.startswith("rgb") else numbers


def compute_contrast(one, other):
    def light(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_phone_scrolls_in_one_direction(visit, file):
    page = visit(file, width=390)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    page.locator(".cell").first.click()
    assert page.evaluate("document.querySelector('.dialog-body').scrollWidth <= innerWidth")


def test_a_phone_shows_verdicts_and_the_whole_grid_without_scrolling(visit, file):
    page = visit(file, width=390)
    rights = "(nodes) => nodes.map((node) => node.getBoundingClientRect().right)"
    badges = page.locator('[data-table="comparisons"] td .badge').evaluate_all(rights)
    cells = page.locator("table.grid").first.locator(".cell").evaluate_all(rights)
    assert badges and max(badges) < 390 and max(cells) < 390
    interval = page.locator(".cell small").first
    assert interval.is_visible()


def test_figures_are_dark_in_the_dark_but_photographs_stay(visit, content, tmp_path):
    path = write_figures(content, tmp_path, (3, 7), sections=("training", "examples"))
    shade = "(nodes) => nodes.map((node) => getComputedStyle(node).filter)"
    for scheme, drawn in (("light", "none"), ("dark", "invert(1) hue-rotate(180deg)")):
        page = visit(path, color_scheme=scheme)
        assert page.locator("figure img").evaluate_all(shade) == [drawn, "none"]
    page.locator("#theme").click()
    assert page.locator("figure img").evaluate_all(shade) == ["none", "none"]


def test_a_phone_says_that_a_wide_figure_goes_on(visit, content, tmp_path):
    path = write_figures(content, tmp_path, (3, 7))
    for width, is_said in ((390, True), (1280, False)):
        hint = visit(path, width=width).locator("#figures .sideways")
        assert hint.count() == 1 and hint.is_visible() == is_said


def test_the_button_below_a_table_says_how_many_rows_it_will_have(visit, content, tmp_path):
    many = content.comparisons.loc[content.comparisons.index.repeat(4)].reset_index(drop=True)
    path = tmp_path / "index.html"
    big = replace(content, comparisons=many)
    path.write_text(render_page(big, make_page_data(big)), encoding="utf-8")
    box = visit(path).locator('[data-table="comparisons"]')
    button = box.locator(".more button")
    assert button.inner_text() == "Show all 24 comparisons"
    button.click()
    assert box.locator("tbody tr").count() == 24 and not button.is_visible()


def test_rows_beyond_the_first_are_made_when_they_are_asked_for(visit, content, tmp_path):
    many = content.runs.loc[content.runs.index.repeat(5)].reset_index(drop=True)
    big = replace(content, runs=many)
    path = tmp_path / "index.html"
    path.write_text(render_page(big, make_page_data(big, max_detailed=20), first_rows=50))
    page = visit(path)
    box = page.locator('[data-table="runs"]')
    assert box.locator("output").inner_text() == f"{len(many)} runs"
    assert box.locator("tbody tr").count() == 12
    box.locator(".more button").press("Enter")
    assert box.locator("tbody tr").count() == min(212, len(many))
    thirteenth = box.locator("tbody tr").nth(12).locator("button")
    assert thirteenth.evaluate("button => button === document.activeElement")
    box.locator('[data-opens^="run:"]').last.click()
    assert "in its folder" in page.locator("#panel").inner_text()


def test_nothing_in_the_data_runs(visit, content, tmp_path):
    nasty = make_nasty(content, tmp_path)
    path = tmp_path / "index.html"
    path.write_text(render_page(nasty, make_page_data(nasty)), encoding="utf-8")
    page = visit(path)
    page.locator('[data-opens="run:0"]').first.click()
    panel = page.locator("#panel")
    assert NASTY[0] in panel.inner_text()
    page.keyboard.press("Escape")
    page.locator('[data-table="cells"] .csv').click()
    assert page.locator("img").count() == 0 and page.locator("main script").count() == 0


def write_figures(content, folder, widths, sections=()):
    """Write a page with figures of these widths, in inches, and return its path."""
    sections = sections or ["training"] * len(widths)
    source = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"
    pictures = [
        Picture(
            ReportFigure(f"{i}", f"Figure {i}", "A caption.", Figure((width, 2)), "", section),
            source,
        )
        for i, (width, section) in enumerate(zip(widths, sections, strict=True))
    ]
    path = folder / "index.html"
    path.write_text(render_page(content, make_page_data(content), pictures), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(visit, content, tmp_path, width, scheme):
    package = find_spec("axe_playwright_python")
    if package is None:
        pytest.skip("axe-playwright-python is not installed")
    measures = make_measured_content(tmp_path / "measured").measures
    path = write_figures(replace(content, measures=measures), tmp_path, (3, 7))
    page = visit(path, width=width, color_scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    axe = Path(package.submodule_search_locations[0], "axe.min.js")
    page.evaluate(axe.read_text(encoding="utf-8"))
    serious = """async () => (await axe.run()).violations
        .filter((rule) => ["serious", "critical"].includes(rule.impact))
        .map((rule) => [rule.id, rule.nodes.map((node) => node.html.slice(0, 200))])"""
    assert page.evaluate(serious) == []
    page.locator('[data-opens^="run:"]').first.click()
    assert page.evaluate(serious) == []


def test_figures_stand_side_by_side_where_there_is_room(visit, content, tmp_path):
    page = visit(write_figures(content, tmp_path, (3, 3, 7)))
    boxes = "(nodes) => nodes.map((node) => node.getBoundingClientRect()).map((b) => [b.x, b.y])"
    one, two, _ = page.locator("#figures figure").evaluate_all(boxes)
    assert one[1] == two[1] and two[0] > one[0] + 400
    picture, caption = page.locator("#figures .wide > :not(.sideways)").evaluate_all(boxes)
    assert picture[1] == caption[1] and caption[0] > picture[0] + 400


def test_all_rows_are_printed(visit, file):
    page = visit(file)
    box = page.locator('[data-table="runs"]')
    assert box.locator("tbody tr").count() == 12
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    total = int(box.get_attribute("data-total"))
    assert total > 12 and box.locator("tbody tr").count() == total
