"""Figures: right values and places on the axes, no pyplot state, small files."""

import io
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import ovamnb as ov
from ovamnb.plot.figures import new_figure, to_pixels


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_show_lays_the_heat_over_the_whole_image(image):
    heat = torch.rand(4, 6, requires_grad=True)
    figure = ov.show(image, heat, title="kitten", label="share of attention")
    assert isinstance(figure, Figure)
    ax, bar = figure.axes
    background, layer = ax.images
    assert tuple(background.get_extent()) == tuple(layer.get_extent()) == (-0.5, 23.5, 15.5, -0.5)
    np.testing.assert_allclose(layer.get_array(), heat.detach())
    assert layer.get_clim() == (0, pytest.approx(heat.max().item()))
    assert ax.get_title() == "kitten" and bar.get_ylabel() == "share of attention"
    assert all(drawn.get_alpha() in (None, 1) for drawn in bar.collections), (
        "a bar that shines through is striped"
    )
    assert len(png(figure)) < 100_000


def test_show_outlines_a_mask(image):
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[4:8, 6:12] = True
    figure = ov.show(image, mask)
    tint = figure.axes[0].images[1].get_array()
    assert np.array_equal(tint[..., 3] > 0, mask)
    border = figure.axes[0].collections[0].get_paths()[0].get_extents()
    assert border.x0 == pytest.approx(5.5, abs=0.51) and border.y1 == pytest.approx(7.5, abs=0.51)
    rim, line = figure.axes[0].collections
    assert rim.get_linewidth()[0] > line.get_linewidth()[0], (
        "a rim shows the border on a ground of its own colour"
    )
    assert rim.get_edgecolor()[0].min() == 1 > line.get_edgecolor()[0].min()
    for full in (torch.zeros_like(mask), torch.ones_like(mask), np.ones((2, 3), dtype=bool)):
        png(ov.show(image, full))  # no border to draw, no warning


def test_show_draws_on_given_axes(image):
    figure = new_figure(4, 2)
    left, right = figure.subplots(1, 2)
    assert ov.show(image, ax=left) is figure
    assert ov.show(image, torch.rand(4, 6), ax=right) is figure
    assert len(left.images) == 1 and len(right.images) == 2


def test_contact_sheet_has_one_scale(image):
    heats = {
        "cat": torch.rand(4, 6),
        "kitten on grass": 3 * torch.rand(4, 6),
        "car": np.zeros((8, 12)),
        "a": torch.rand(2, 3),
    }
    figure = ov.contact_sheet(image, heats, label="share of attention")
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:5] == ["image", *heats]
    high = heats["kitten on grass"].max().item()
    assert all(ax.images[0].get_clim() == (0, pytest.approx(high)) for ax in figure.axes[1:5])
    assert figure.axes[-1].get_ylabel() == "share of attention"
    assert len(png(figure)) < 100_000
    with pytest.raises(ValueError, match="at least one map"):
        ov.contact_sheet(image, {})


def test_overlay_returns_what_a_colour_bar_needs(image):
    ax = new_figure(2, 2).subplots()
    drawn = ov.overlay(ax, image, torch.tensor([[-1.0, 2.0]]), vmax=3)
    assert drawn.get_clim() == (-1, 3)


def test_images_of_any_kind(image):
    expected = to_pixels(image)
    for same in (Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1) / 255):
        found = to_pixels(same)
        np.testing.assert_allclose(found / found.max(), expected / expected.max(), atol=1e-6)
    assert (
        to_pixels(image[..., 0]).shape == to_pixels(Image.fromarray(image).convert("L")).shape == (16, 24, 3)
    )
    with pytest.raises(ValueError, match="An image has the shape"):
        to_pixels(np.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"shape \(h, w\), not \(3, 4, 6\)"):
        ov.show(image, torch.rand(3, 4, 6))


def test_pyplot_is_left_alone(image):
    before = "matplotlib.pyplot" in sys.modules
    ov.show(image, torch.rand(4, 6))
    ov.contact_sheet(image, {"cat": torch.rand(4, 6)})
    assert ("matplotlib.pyplot" in sys.modules) == before
    if before:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_labels_have_a_colour_a_name_in_place_and_a_legend(image):
    labels = torch.zeros(16, 24, dtype=torch.int64)
    labels[:, :6], labels[:4, 12:], labels[-1, -1] = 1, 3, 255
    figure = ov.show_labels(image, labels, ["cat", "dog", "car"], title="three")
    [ax] = figure.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["cat", "dog", "car"]
    assert {text.get_text(): text.get_position() for text in ax.texts} == {
        "cat": (2.5, 7.5),
        "car": (17.5, 1.5),
    }
    tints = [np.asarray(drawn.get_array()) for drawn in ax.images[1:]]
    assert [int((tint[..., 3] > 0).sum()) for tint in tints] == [16 * 6, 4 * 12]
    with pytest.raises(ValueError, match="16, 24"):
        ov.show_labels(image, labels.T, ["cat"])


class TestRefusals:
    HEAT, LABELS = torch.rand(4, 6), np.zeros((16, 24), int)

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            "cat",
            3,
            object(),
            [[1, 2], [3]],
            np.zeros((0, 4, 3)),
            np.array([["a"]]),
            torch.ones(3, 4, 4) * 1j,
        ],
    )
    def test_what_is_no_image(self, wrong):
        for draw in (ov.show, lambda image: ov.show_labels(image, self.LABELS, ["cat"])):
            with pytest.raises(ValueError, match=r"An image has the shape|An image holds"):
                draw(wrong)

    def test_images_on_another_scale(self, image):
        for wrong in (image.astype(np.int64), image.astype(float), image / 255 * np.nan):
            with pytest.raises(ValueError, match="An image holds uint8, or floats 0 to 1"):
                ov.show(wrong)
        assert np.array_equal(to_pixels(torch.from_numpy(image).permute(2, 0, 1)), image)
        assert to_pixels(image / 255 * 1.1).max() == 1, "what overshoots by resizing"

    @pytest.mark.parametrize(
        "wrong", ["cat", object(), torch.rand(4), torch.zeros(0, 4), [[1.0], [1.0, 2.0]]]
    )
    def test_what_is_no_map(self, image, wrong):
        with pytest.raises((ValueError, TypeError), match="heat map or mask"):
            ov.show(image, wrong)

    def test_maps_that_are_not_finite(self, image):
        for value in (torch.nan, torch.inf):
            with pytest.raises(ValueError, match="not finite"):
                ov.show(image, self.HEAT * value)
            with pytest.raises(ValueError, match="not finite"):
                ov.contact_sheet(image, {"cat": self.HEAT * value})

    @pytest.mark.parametrize(
        ("classes", "labels"),
        [("cat", 0), (None, 0), ([1, 2], 0), (["cat"], 0.5), (["cat"], "x")],
    )
    def test_labels_and_classes_that_are_none(self, image, classes, labels):
        wrong = np.full((16, 24), labels)
        with pytest.raises(TypeError, match=r"a list of names|is a name|whole numbers|of numbers"):
            ov.show_labels(image, wrong, classes)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"vmax": torch.nan}, "vmax is a number above 0"),
            ({"vmax": -1.0}, "vmax is a number above 0"),
            ({"vmax": "1"}, "vmax is a number"),
            ({"columns": 0}, "columns count panels"),
            ({"columns": 2.5}, "columns count panels"),
            ({"cmap": "viridi"}, "cmap is the name"),
            ({"cmap": 3}, "cmap is the name"),
            ({"label": 3}, "label is a text"),
            ({"heats": [1, 2]}, "heats is a mapping"),
            ({"heats": {1: torch.rand(2, 2)}}, "is a text"),
        ],
    )
    def test_choices_of_a_contact_sheet(self, image, options, says):
        with pytest.raises((ValueError, TypeError), match=says):
            ov.contact_sheet(image, **{"heats": {"cat": self.HEAT}} | options)

    def test_axes_and_titles(self, image):
        with pytest.raises(TypeError, match="ax is the Axes to draw on"):
            ov.show(image, ax=new_figure(2, 2))
        with pytest.raises(TypeError, match="title is a text"):
            ov.show(image, title=3)
        with pytest.raises(ValueError, match="alpha is a number from 0 to 1"):
            ov.overlay(new_figure(2, 2).subplots(), image, self.HEAT, alpha=2)
