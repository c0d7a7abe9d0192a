"""What is read without a kernel, in a real browser: the page that asks a trace, and the book around it."""

import functools
import http.server
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import ovamnb as ov
from workshop.ask.write import TRACE, Recorded, record, standalone
from workshop.book import ASK, write_book
from workshop.pages import Visit

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")]

PHONE = {"width": 360, "height": 740}
WIDE = "<table><tr>" + "".join(f"<td>column{i}</td>" for i in range(60)) + "</tr></table>"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, Recorded]:
    """The folder of a book, in which the page that asks lies already, and what it says of its trace."""
    out = tmp_path_factory.mktemp("book")
    return out, record(out / ASK)


@pytest.fixture(scope="module")
def trace(recorded) -> ov.Trace:
    return ov.Trace.load(recorded[0] / ASK / TRACE)


@pytest.fixture(scope="module")
def book(recorded) -> Path:
    out, about = recorded
    standalone(out / ASK, about)
    pixels = new_output("display_data", {"text/html": WIDE, "text/plain": "wide"})
    fold = "<details><summary>A hint</summary>\n\nLook at the **wombat**.\n\n</details>"
    formula = "$$" + " + ".join(f"x_{{{i}}}" for i in range(60)) + "$$"
    cells = [
        new_markdown_cell(f"# One\n\nA chapter on zebras.\n\n## Widely\n\n{formula}\n\n{fold}"),
        new_code_cell("x = '" + 200 * "y" + "'", outputs=[pixels]),
    ]
    other = new_notebook(cells=[new_markdown_cell("# Two\n\nA chapter on marmots.")])
    visits = [
        Visit(Path("one.ipynb"), new_notebook(cells=cells), 1, 1),
        Visit(Path("two.ipynb"), other, 1, 1),
    ]
    write_book(visits, out, {"old": "two"}, about)
    return out


@pytest.fixture(scope="module")
def served(book: Path):
    """The address of the book, over http."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

    handler = functools.partial(Quiet, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served: str):
    """A page that must ask nobody but us for anything, and must raise no error."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: r.url.startswith((served, "file:", "data:")) or wrong.append(r.url))
    yield page
    page.close()
    assert not wrong


def asked(page, address: str):
    """The page that asks, when it has answered for the first time."""
    page.goto(address)
    page.locator("#ask-tokens li").first.wait_for()
    return page


def ask(page, text: str) -> None:
    page.get_by_label("Your words").fill(text)
    page.get_by_label("Your words").press("Enter")


def fits(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


class TestThePageThatAsks:
    def test_its_trace_is_small(self, recorded) -> None:
        assert (recorded[0] / ASK / TRACE).stat().st_size < 10 * 2**20 and recorded[1].megabytes < 10.5

    @pytest.mark.parametrize(
        "text", ["a kitten, on grass", "An umbrella and THE automobile in front of a tree"]
    )
    def test_its_numbers_are_those_of_python(self, page, served, trace, text: str) -> None:
        asked(page, f"{served}/{ASK}/index.html")
        for finest, blocks in ((False, None), (True, 32)):
            maps = page.evaluate(
                "([text, finest]) => { const m = ovamnb.trace.maps(text, {finest}); const c = "
                "ovamnb.trace.completed(m); return [m.tokens, m.grid, [...m.values], [...c.values]]; }",
                [text, finest],
            )
            right = trace.maps(text, blocks=blocks).share
            assert maps[0][1:-1] == list(right.tokens[1:-1]) and tuple(maps[1]) == right.values.shape[1:]
            np.testing.assert_allclose(maps[2], right.values.flatten().numpy(), atol=2e-3)
            fine = ov.complete(right.values, trace.self_attention(32).float())
            np.testing.assert_allclose(maps[3], fine.flatten().numpy(), atol=2e-3)

    def test_what_is_typed_is_answered(self, page, served) -> None:
        asked(page, f"{served}/{ASK}/index.html")
        before = page.locator("#ask-picture").evaluate("canvas => canvas.toDataURL()")
        ask(page, "a car, on grass")
        tokens = page.locator("#ask-tokens button")
        sync_api.expect(tokens).to_have_count(7)
        shown = [text.split("at most")[0].strip() for text in tokens.all_inner_texts()]
        assert shown == ["the start token", "“a”", "“car”", "“,”", "“on”", "“grass”", "the end token"]
        after = page.locator("#ask-picture").evaluate("canvas => canvas.toDataURL()")
        assert after != before
        tokens.nth(5).press("Enter")
        sync_api.expect(page.locator("#ask-caption")).to_contain_text("“grass”")
        assert tokens.nth(5).get_attribute("aria-pressed") == "true"
        assert page.locator("#ask-picture").evaluate("canvas => canvas.toDataURL()") != after

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a kittne", "does not know the word “kittne”. Did you mean “kitten”"),
            ("a cat ☃", "does not know the word “☃”"),
            ("a cqxzjwv", "Please use another word."),
            (" ,", "Type at least one word."),
            ("cat " * 31, "That is 31 words. The model reads 30 at most."),
        ],
    )
    def test_what_cannot_be_answered_is_said(self, page, served, text: str, said: str) -> None:
        asked(page, f"{served}/{ASK}/index.html")
        ask(page, text)
        sync_api.expect(page.locator("#ask-message")).to_contain_text(said)
        assert page.locator("#ask-tokens li").count() == 6, "the last answer stays"
        ask(page, "a cat")
        sync_api.expect(page.locator("#ask-message")).to_have_text("Asked: a cat")

    def test_a_place_answers_a_click_and_a_key(self, page, served, trace) -> None:
        asked(page, f"{served}/{ASK}/index.html")
        grid = np.array(trace.maps("a kitten").values.shape[1:])
        kitten = ov.complete(trace.maps("a kitten", blocks=32)["kitten"], trace.self_attention(32).float())
        row, column = np.unravel_index(kitten.argmax(), kitten.shape)
        canvas, words = page.locator("#ask-picture"), page.locator("#ask-place-words li")
        box = canvas.bounding_box()
        spot = {"x": (column + 0.5) / grid[1] * box["width"], "y": (row + 0.5) / grid[0] * box["height"]}
        canvas.click(position=spot)
        words.first.wait_for()
        place = f"At row {row + 1}, column {column + 1},"
        sync_api.expect(page.locator("#ask-place-status")).to_contain_text(place)
        found = words.evaluate_all(
            "items => items.map(item => [item.querySelector('button').textContent, item.textContent])"
        )
        assert len(found) == 10 and {word for word, _ in found} & {"cat", "kitten", "kitty", "puppy", "dog"}
        for word, line in found[:3]:
            share = trace.maps(f"a photograph of {word}").share[word][row, column].item()
            assert abs(float(line.removeprefix(word)) - share) < 0.006, "as shown, with two digits"
        canvas.focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#ask-place-status")).to_contain_text(
            f"At row {row + 2},", timeout=60_000
        )
        words.first.get_by_role("button").click()
        assert page.get_by_label("Your words").input_value().startswith("a photograph of ")

    def test_it_opens_from_a_file_on_a_phone_and_in_the_book(self, page, served, book: Path) -> None:
        page.set_viewport_size(PHONE)
        for address in (f"file://{book}/{ASK}/index.html", f"{served}/{ASK}.html"):
            asked(page, address)
            assert fits(page), address
            ask(page, "a kitten on grass and a car and a tree and the sky")
            sync_api.expect(page.locator("#ask-tokens li")).to_have_count(15)
            assert fits(page), address

    def test_everything_to_use_has_a_name(self, page, served) -> None:
        asked(page, f"{served}/{ASK}/index.html")
        for control in page.locator("#ask :is(button, input, canvas[tabindex])").all():
            name = control.evaluate(
                "e => e.getAttribute('aria-label') || e.textContent || e.labels?.[0]?.textContent"
            )
            assert name and name.strip(), control
        assert page.locator("html").get_attribute("lang") == "en"


class TestTheBook:
    def test_a_word_finds_its_chapter(self, page, served) -> None:
        page.goto(f"{served}/index.html")
        page.locator("input[name=q]").first.fill("wombat")
        page.locator("input[name=q]").first.press("Enter")
        found = page.locator("#search-results li a")
        found.first.wait_for()
        assert found.all_inner_texts() == ["One"]
        found.first.click()
        assert page.url.startswith(f"{served}/one.html")

    def test_it_goes_on_and_back(self, page, served) -> None:
        page.goto(f"{served}/one.html")
        page.locator("a.next-page").click()
        assert page.url.endswith("/two.html")
        page.locator("a.prev-page").click()
        assert page.url.endswith("/one.html")
        page.locator(".sidebar-tree a", has_text="Two").click()
        assert page.url.endswith("/two.html")
        page.goto(f"{served}/old.html")
        page.wait_for_url(re.compile(r".*/two\.html"))

    def test_a_fold_opens(self, page, served) -> None:
        page.goto(f"{served}/one.html")
        hidden = page.get_by_text("wombat")
        assert not hidden.is_visible()
        page.get_by_text("A hint").click()
        sync_api.expect(hidden).to_be_visible()

    def test_it_fits_a_phone(self, page, served) -> None:
        page.set_viewport_size(PHONE)
        for name in ("index", "one", "two", "search"):
            page.goto(f"{served}/{name}.html")
            assert fits(page), name
        page.goto(f"{served}/one.html")
        width = "e => [e.scrollWidth, e.clientWidth]"
        for wide in ("article table", "article pre"):
            inside, seen = page.locator(wide).first.evaluate(width)
            assert seen < PHONE["width"] < inside, f"{wide} scrolls by itself"
        assert (
            page.locator("article math[display=block]").first.evaluate(
                "e => e.getBoundingClientRect().height"
            )
            > 5
        )
