"""Pictures of a model and controls over a recording, driven without a browser."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import generate, sd_pipeline, word_tokenizer, xl_pipeline
from PIL import Image

import ovamnb as ov
from ovamnb.plot.anatomy import draw_unet
from ovamnb.plot.widgets import (
    ask_box,
    draw_answer,
    draw_rows,
    latest_file,
    read_image,
    row_explorer,
    segment_box,
)


@pytest.mark.parametrize("make", [sd_pipeline, xl_pipeline])
def test_the_drawing_names_every_stage_of_the_model(make):
    pipe = make()
    with ov.record(pipe) as trace:
        generate(pipe, steps=1)
    [ax] = draw_unet(trace).axes
    said = "\n".join(text.get_text() for text in ax.texts)
    for name, block in trace.blocks.items():
        assert name.split(".attentions")[0] in said
        assert "×".join(map(str, block.grid)) in said
    boxes = [text for text in ax.texts if "attention" in text.get_text()]
    counted = sum(int(text.get_text().split("\n")[2].split()[0]) for text in boxes)
    assert counted == len(trace.blocks)


def test_an_empty_trace_cannot_be_drawn():
    with pytest.raises(ValueError, match="empty"):
        draw_unet(ov.Trace())


def panels(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_an_answer_has_one_panel_per_telling_word(trace, image):
    assert panels(draw_answer(trace, image, "a cat on the grass")) == ["image", "cat", "grass"]
    assert panels(draw_answer(trace, image, "the")) == ["image", "the"]


def test_the_box_answers_and_survives_what_it_cannot_read(trace, image):
    widget = ask_box(trace, image, "a cat")
    box, message, picture = widget.children
    first = bytes(picture.value)
    assert first.startswith(b"\x89PNG") and message.value == ""
    box.value = "a dog and a car"
    second = bytes(picture.value)
    assert second != first and message.value == ""
    box.value = "   "
    assert "empty" in message.value and bytes(picture.value) == second
    box.value = "a cat"
    assert message.value == "" and bytes(picture.value) == first


def test_the_box_refuses_an_emoji_that_its_model_does_not_know(image):
    pipe = sd_pipeline(word_tokenizer(), text_layers=0)
    with ov.record(pipe) as trace:
        generate(pipe, steps=1)
    box, message, _ = ask_box(trace, image, "a cat").children
    box.value = "a 🐱 on grass"
    assert "no word" in message.value and "🐱" in message.value


def test_widgets_of_a_wrong_kind_are_refused_before_they_are_shown(trace, image):
    affinity = trace.self_attention(12)
    for make, says in (
        (lambda: ask_box(None, image, "a cat"), "trace is a recording"),
        (lambda: ask_box(trace, image, None), "text is a text"),
        (lambda: segment_box("bundled"), "a diffusers pipeline"),
        (lambda: segment_box(sd_pipeline(), ["cat"]), "names is class names"),
        (lambda: row_explorer("32", image), "An affinity is a tensor"),
        (lambda: draw_rows(2 * affinity, image, [(0, 0)]), "rows sum to 1"),
        (lambda: draw_rows(affinity, image, [(8, 0)]), "y is a whole number from 0 to 7"),
        (lambda: draw_rows(affinity, image, [(0, 1.5)]), "x is a whole number from 0 to 11"),
        (lambda: draw_rows(affinity, image, [3]), "a list of two numbers"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            make()
    assert panels(draw_rows(affinity.numpy(), image, [(1, 2)])) == ["image", "from (1, 2)"]


def test_a_damaged_upload_is_told(image):
    png = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(png, "PNG")
    assert read_image(png.getvalue()).size == (64, 64)
    for content in (b"", b"nonsense", png.getvalue()[:2000]):
        with pytest.raises(ValueError, match=r"damaged"):
            read_image(content)


def test_the_box_shows_what_was_typed_as_text(trace, image):
    message = ask_box(trace, image, "<script> " * 20).children[1]
    assert "would fall off" in message.value
    assert "<script>" not in message.value and "&lt;script&gt;" in message.value


def test_a_pixels_row_is_drawn_on_the_affinitys_own_grid(trace, image):
    affinity = trace.self_attention(12)  # 8×12
    figure = draw_rows(affinity, image, [(0, 0), (7, 11)])
    assert panels(figure) == ["image", "from (0, 0)", "from (7, 11)"]
    shown = figure.axes[2].images[0].get_array()
    assert shown.shape == (8, 12) and shown[0, 0] == pytest.approx(affinity[-1, 0].item())


def test_rows_of_named_pixels_share_one_scale(trace, image):
    figure = draw_rows(trace.self_attention(12), image, {"cat": (0, 0), "car": (7, 11)})
    _, cat, car, bar = figure.axes
    assert [ax.get_title() for ax in (cat, car)] == ["from cat, (0, 0)", "from car, (7, 11)"]
    assert cat.images[0].get_clim() == car.images[0].get_clim() and bar.get_ylabel() == "share of attention"


def test_the_explorer_follows_its_sliders(trace, image):
    row, column, picture = row_explorer(trace.self_attention(12), image).children
    assert (row.max, column.max) == (7, 11)
    first = bytes(picture.value)
    column.value = 0
    assert bytes(picture.value) != first and first.startswith(b"\x89PNG")


def test_an_upload_is_read_from_either_version_of_ipywidgets():
    assert latest_file({"a.png": {"content": b"one"}, "b.png": {"content": b"two"}}) == b"two"
    assert latest_file(({"name": "a.png", "content": memoryview(b"one")},)) == b"one"


def test_the_segmenter_takes_an_upload_and_survives_what_it_cannot_read(pipe, image):
    upload, line, message, picture = segment_box(pipe, "cat, car").children
    assert message.value == "Choose an image." and not picture.value

    def send(content: bytes) -> None:
        now = datetime.now(UTC)
        entry = {"name": "a", "type": "image/png", "size": len(content), "last_modified": now}
        upload.value = ({**entry, "content": memoryview(content)},)

    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    send(png.getvalue())
    first = bytes(picture.value)
    assert first.startswith(b"\x89PNG") and message.value == ""
    line.value = "cat, cat"
    assert "Named twice" in message.value and bytes(picture.value) == first
    line.value = "dog"
    assert message.value == "" and bytes(picture.value) != first
    send(b"no image")
    assert "cannot identify image" in message.value
