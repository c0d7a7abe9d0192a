"""Annotations: masks from files and corners, and the widget that draws them."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

import ovamnb as ov
from ovamnb.masks import as_mask, fitted


def square(size=(16, 24)):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[4:12, 4:12] = True
    return mask


def test_a_file_and_back(tmp_path):
    ov.save_mask(square(), tmp_path / "cat.png")
    assert ov.load_mask(tmp_path / "cat.png").equal(square())
    with pytest.raises(FileNotFoundError, match="no mask"):
        ov.load_mask(tmp_path / "dog.png")


def test_a_drawing_on_a_transparent_canvas(tmp_path):
    canvas = np.zeros((16, 24, 4), np.uint8)
    canvas[square().numpy()] = (0, 0, 0, 255)  # drawn in black
    Image.fromarray(canvas).save(tmp_path / "cat.png")
    assert ov.load_mask(tmp_path / "cat.png").equal(square())


def test_corners_by_hand():
    mask = ov.polygon_mask((8, 10), [(2, 1), (6, 1), (6, 5), (2, 5)])
    assert mask.shape == (8, 10) and mask[3, 4] and not mask[3, 8] and not mask[7, 4]
    with pytest.raises(ValueError, match="three corners"):
        ov.polygon_mask((8, 10), [(2, 1), (6, 1)])
    with pytest.raises(ValueError, match="empty"):
        ov.polygon_mask((8, 10), [(20, 20), (30, 20), (30, 30)])


@pytest.mark.parametrize("size", [[], (), (32,), "32", None, (3.5, 4.5)])
def test_sizes_that_are_none(size):
    with pytest.raises(TypeError, match=r"Give a size \(h, w\)"):
        ov.polygon_mask(size, [(2, 1), (6, 1), (6, 5)])


@pytest.mark.parametrize(
    "corners",
    [None, "abc", [1, 2, 3], [(1, 2, 3)] * 3, [(0, 0), (5, torch.nan), (5, 5)], [(0, 0), (1e30, 0)] * 2],
)
def test_corners_that_are_none(corners):
    with pytest.raises((TypeError, ValueError), match=r"(?i)corner"):
        ov.polygon_mask((8, 10), corners)


def test_masks_that_are_none():
    with pytest.raises(ValueError, match="The mask holds values that are not finite"):
        as_mask(torch.tensor([[0.0, torch.nan]]))
    for wrong in (None, "cat", object()):
        with pytest.raises(TypeError, match="A mask is a tensor or an array of numbers"):
            as_mask(wrong)
    assert as_mask(torch.tensor([[0.0, 1.0]], requires_grad=True)).tolist() == [[False, True]]


@pytest.mark.parametrize("values", [bool, np.uint8, np.float32, np.int64])
def test_any_two_values(values):
    assert as_mask(square().numpy().astype(values)).equal(square())
    assert as_mask(square().numpy().astype(np.uint8) * 255).equal(square())


def test_proportions():
    assert fitted(square((32, 48)), None, (8, 12)).shape == (32, 48)  # no size is known: nothing to resize to
    for odd in ((15, 21), (512, 767)):
        grid = tuple(-(-side // 2) for side in odd)
        assert fitted(square(odd), None, grid).shape == odd
    with pytest.raises(ValueError, match="uncropped"):
        fitted(square((24, 16)), (16, 24), (8, 12))


class TestAnnotator:
    @pytest.fixture
    def annotator(self, image):
        pytest.importorskip("anywidget")
        from ovamnb.plot.annotate import Annotator

        return Annotator(image)

    def drawn(self, mask):
        canvas = np.zeros((*mask.shape, 4), np.uint8)
        canvas[mask.numpy()] = (213, 94, 0, 255)
        png = io.BytesIO()
        Image.fromarray(canvas).save(png, "PNG")
        return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()

    def test_what_is_drawn_is_the_mask(self, annotator, tmp_path):
        with pytest.raises(ValueError, match="Nothing is drawn yet"):
            _ = annotator.mask
        annotator.drawn = self.drawn(square())
        assert annotator.mask.equal(square())
        annotator.save(tmp_path / "cat.png")
        assert ov.load_mask(tmp_path / "cat.png").equal(square())

    def test_a_cleared_canvas_is_empty(self, annotator):
        annotator.drawn = self.drawn(torch.zeros(16, 24, dtype=torch.bool))
        with pytest.raises(ValueError, match="empty"):
            _ = annotator.mask
