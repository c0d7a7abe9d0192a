"""Widgets as a reader meets them: in a real JupyterLab, in a real browser, with a real kernel.

An exception in a widget's callback is swallowed by the kernel, so only the page tells whether typing works.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from ovamnb.emoji.scenes import scene
from ovamnb.masks import load_mask

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on PATH")]

ASK = """\
import ovamnb as ov
from ovamnb.plot.widgets import ask_box

pipe = ov.load_pipeline()
pipe.set_progress_bar_config(disable=True)
with ov.record(pipe) as trace:
    image = pipe("a cat on grass", num_inference_steps=2).images[0]
ask_box(trace, image, "a cat")"""
DRAW = """\
from ovamnb.plot.annotate import Annotator
from ovamnb.emoji.scenes import scene

drawing = Annotator(scene(1, size=(64, 96)).image)
drawing.observe(lambda change: drawing.save("drawn.png"), "drawn")
drawing"""
CUT = """\
import ovamnb as ov
from ovamnb.plot.widgets import segment_box

segment_box(ov.load_pipeline(), "cat, car")"""

GUESS = """\
import ovamnb as ov

my_prediction = None
with ov.predict("00.1", my_prediction, ("yes", "no")) as answer:
    print("so it is")
    answer("yes")"""


NOTEBOOKS = {"ask": ASK, "cut": CUT, "draw": DRAW, "guess": GUESS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Notebooks of one cell each."""
    folder = tmp_path_factory.mktemp("lab")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for name, code in NOTEBOOKS.items():
        notebook = new_notebook(cells=[new_code_cell(code)], metadata={"kernelspec": kernel})
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def lab(folder: Path):
    """The address of one notebook after another in one JupyterLab."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += [f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    own["OVAMNB_PROGRESS"] = str(folder / "progress.json")
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | own)
    try:
        yield f"http://127.0.0.1:{port}/lab/workspaces/{{0}}/tree/{{0}}.ipynb?token={token}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def answered(dialog) -> None:
    print("JupyterLab asked:", dialog.inner_text())
    dialog.locator("button.jp-mod-accept").click()


@pytest.fixture
def page(browser, lab: str, request):
    """The page of the notebook that the test names, its cell run."""
    sync_api.expect.set_options(timeout=30_000)
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(120_000)
    address = lab.format(request.param)
    for _ in range(240):  # until the server answers
        try:
            urllib.request.urlopen(address).close()
            break
        except urllib.error.URLError:
            page.wait_for_timeout(250)
    # Now and then JupyterLab has a question of its own, over everything else: take its first choice.
    page.add_locator_handler(page.locator(".jp-Dialog"), answered)
    page.goto(address)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    for _ in range(30):  # a key pressed too early is lost
        page.locator(".jp-Notebook .jp-Cell").first.click()
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(1000)
        if re.search(r"\[[*\d]", page.locator(".jp-InputPrompt").first.inner_text()):
            break
    yield page
    page.close()


@pytest.mark.parametrize("page", ["ask"], indirect=True)
def test_the_box_answers_what_is_typed(page) -> None:
    expect = sync_api.expect
    box = page.locator(".jp-OutputArea input[type=text]")
    picture = page.locator(".jp-OutputArea img.widget-image")
    message = page.locator(".jp-OutputArea .widget-html-content")

    def typed(text: str) -> None:
        box.fill(text)
        box.press("Enter")

    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 200, (
        "a picture is there before anything is typed"
    )
    first = picture.get_attribute("src")

    typed("a kitten and a car")
    expect(picture).not_to_have_attribute("src", first)
    second = picture.get_attribute("src")

    typed("a kittne")
    expect(message).to_contain_text("no word 'kittne': did you mean 'kitten'")
    expect(picture).to_have_attribute("src", second)  # the last picture stays

    typed("a kitten")
    expect(message).to_have_text("")
    expect(picture).not_to_have_attribute("src", second)


@pytest.mark.parametrize("page", ["guess"], indirect=True)
def test_an_answer_stays_folded_until_there_is_a_prediction(page, folder: Path) -> None:
    expect = sync_api.expect
    output = page.locator(".jp-OutputArea-output")
    expect(output.first).to_contain_text("Write your prediction first", timeout=60_000)
    answer = page.locator(".jp-OutputArea details pre")
    expect(answer).to_be_hidden()
    page.locator(".jp-OutputArea summary").click()
    expect(answer).to_be_visible()
    expect(answer).to_have_text("so it is\n")

    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(GUESS.replace("None", '"no"'))
    page.keyboard.press("Control+Enter")
    expect(output.first).to_contain_text("so it is")
    expect(output.first).to_contain_text("✗ you said no, it is yes")
    assert '"said": "no"' in (folder / "progress.json").read_text()


@pytest.mark.parametrize("page", ["cut"], indirect=True)
def test_an_uploaded_image_is_cut(page, tmp_path: Path) -> None:
    expect = sync_api.expect
    picture = page.locator(".jp-OutputArea img.widget-image")
    message = page.locator(".jp-OutputArea .widget-html-content")
    expect(message).to_contain_text("Choose an image", timeout=60_000)

    def upload(path: Path) -> None:
        with page.expect_file_chooser() as chooser:
            page.locator(".jp-OutputArea .widget-upload").click()
        chooser.value.set_files(path)

    Image.fromarray(scene(1, size=(64, 96)).image).save(tmp_path / "mine.png")
    upload(tmp_path / "mine.png")
    expect(message).to_have_text("", timeout=60_000)
    assert picture.evaluate("image => image.naturalWidth") > 200
    first = picture.get_attribute("src")

    (tmp_path / "words.png").write_text("no image")
    upload(tmp_path / "words.png")
    expect(message).to_contain_text("cannot identify image")
    expect(picture).to_have_attribute("src", first)  # the last picture stays

    upload(tmp_path / "mine.png")
    classes = page.locator(".jp-OutputArea input[type=text]")
    classes.fill("tree")
    classes.press("Enter")
    expect(picture).not_to_have_attribute("src", first)


@pytest.mark.parametrize("page", ["draw"], indirect=True)
def test_what_is_drawn_reaches_the_kernel(page, folder: Path) -> None:
    canvas = page.locator(".jp-OutputArea canvas")
    canvas.wait_for()
    box = canvas.bounding_box()
    zoom = box["width"] / 96
    assert (box["width"], box["height"]) == (384, 256), "four times as large as the image"
    tool = page.locator(".jp-OutputArea select")

    def at(x: float, y: float) -> dict:
        return {"x": x * zoom, "y": y * zoom}

    def mask(until) -> np.ndarray:
        """The mask as the kernel has it, as soon as it fulfils `until`."""
        for _ in range(100):
            page.wait_for_timeout(100)
            if (folder / "drawn.png").is_file():
                found = load_mask(folder / "drawn.png").numpy()
                if until(found):
                    return found
        raise AssertionError("the drawing did not arrive")

    tool.select_option("polygon")
    for corner in ((10, 10), (50, 10), (50, 40), (10, 40)):
        canvas.click(position=at(*corner))
    drawn = mask(lambda found: found.sum() > 1000)
    assert drawn.shape == (64, 96)
    box_itself = np.zeros((64, 96), bool)
    box_itself[10:40, 10:50] = True
    assert (drawn & box_itself).sum() / (drawn | box_itself).sum() > 0.95

    tool.select_option("eraser")
    page.mouse.move(box["x"] + 10 * zoom, box["y"] + 25 * zoom)
    page.mouse.down()
    page.mouse.move(box["x"] + 50 * zoom, box["y"] + 25 * zoom, steps=8)
    page.mouse.up()
    assert not mask(lambda found: not found[25, 30])[25, 12:48].any()

    tool.select_option("brush")
    page.mouse.move(box["x"] + 70 * zoom, box["y"] + 20 * zoom)
    page.mouse.down()
    page.mouse.move(box["x"] + 70 * zoom, box["y"] + 50 * zoom, steps=8)
    page.mouse.up()
    assert mask(lambda found: found[35, 70])[22:48, 68:72].all()

    page.locator(".jp-OutputArea button", has_text="undo").click()
    assert mask(lambda found: not found[35, 70])[15, 30], "only the last stroke is undone"
