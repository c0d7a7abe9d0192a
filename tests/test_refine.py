"""Completion, resizing, thresholds."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import ovamnb as ov
from ovamnb.refine import minmax


def affinity(pixels, seed=0):
    return torch.randn(pixels, pixels, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


def test_complete_is_a_matrix_product():
    heat, attends = torch.rand(3, 4), affinity(12)
    expected = (attends @ heat.flatten()).view(3, 4)
    torch.testing.assert_close(ov.complete(heat, attends), expected)
    torch.testing.assert_close(
        ov.complete(heat, attends, power=3), ov.complete(ov.complete(expected, attends), attends)
    )
    assert heat.min() <= expected.min() and expected.max() <= heat.max()
    torch.testing.assert_close(ov.complete(heat, torch.eye(12)), heat)


def test_complete_works_on_the_grid_of_the_affinity():
    assert ov.complete(torch.rand(15, 21), affinity(88)).shape == (8, 11)
    assert ov.complete(torch.rand(21, 15), affinity(88)).shape == (11, 8)
    assert ov.complete(torch.rand(8, 11), affinity(24)).shape == (4, 6)
    assert ov.complete(torch.rand(2, 4, 6), affinity(96)).shape == (2, 8, 12)
    torch.testing.assert_close(ov.complete(torch.ones(4, 6), affinity(96)), torch.ones(8, 12))


def test_complete_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"shape \(h·w, h·w\), not \(3, 4\)"):
        ov.complete(torch.rand(2, 2), torch.rand(3, 4))
    with pytest.raises(
        ValueError, match="grid is 4×4, but no grid of these proportions has the affinity's 24"
    ):
        ov.complete(torch.rand(4, 4), affinity(24))
    with pytest.raises(ValueError, match="power counts completions"):
        ov.complete(torch.rand(2, 2), affinity(4), power=0)


def test_resize_to_anything_that_has_a_size(image):
    heat = torch.rand(4, 6)
    expected = torch.nn.functional.interpolate(heat[None, None], size=(16, 24), mode="bilinear")[0, 0]
    for target in ((16, 24), image, image[..., 0], Image.fromarray(image), torch.rand(3, 16, 24)):
        torch.testing.assert_close(ov.resize(heat, target), expected)
    assert ov.resize(torch.rand(5, 2, 4, 6), (7, 9)).shape == (5, 2, 7, 9)
    assert ov.resize(heat > 0.5, (8, 8)).dtype == torch.float32
    torch.testing.assert_close(ov.resize(heat.numpy(), (4, 6)), heat)
    for wrong in (7, "big", (1, 2, 3)):
        with pytest.raises(TypeError, match="an image or a size"):
            ov.resize(heat, wrong)
    with pytest.raises(ValueError, match="1 or more each way"):
        ov.resize(heat, (0, 4))
    with pytest.raises(ValueError, match=r"shape \(h, w\), not \(4,\)"):
        ov.resize(torch.rand(4), (2, 2))


def test_binarize_is_relative_to_the_range():
    heat = torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]])
    assert ov.binarize(heat, 0.4).tolist() == [[False, False, False], [True, True, True]]
    assert torch.equal(ov.binarize(heat, 0.4), ov.binarize(1000 * heat + 64, 0.4))
    assert ov.binarize(heat, 0).sum() == 5
    both = torch.stack([heat, 2 * heat])
    assert torch.equal(ov.binarize(both)[1], ov.binarize(heat))


def test_binarize_of_nothing_is_empty():
    for heat in (torch.zeros(2, 3), -torch.ones(2, 3)):
        assert not ov.binarize(heat).any()


def test_binarize_refuses_what_has_no_threshold():
    for threshold in (1, -0.1, 40):
        with pytest.raises(ValueError, match=r"in \[0, 1\)"):
            ov.binarize(torch.rand(2, 2), threshold)
    with pytest.raises(ValueError, match="not finite"):
        ov.binarize(torch.tensor([[np.nan, 1.0]]))


def test_weighing_raises_what_many_pixels_look_at():
    affinity = torch.tensor(
        [[0.1, 0.9, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.6, 0.4, 0.0], [0.5, 0.5, 0.0, 0.0]]
    )
    # column sums: 0.6, 3.0, 0.4, 0.0
    weighed = ov.weigh(torch.ones(2, 2), affinity, floor=0.8)
    assert torch.allclose(weighed, torch.tensor([[0.8 + 0.2 * 0.2, 1.0], [0.8 + 0.2 * 0.4 / 3, 0.8]]))
    assert torch.equal(ov.weigh(torch.ones(2, 2), affinity, floor=1), torch.ones(2, 2))
    rows = affinity.sum(dim=1)
    assert torch.allclose(rows, torch.ones(4)), "the published slip: row sums say nothing"
    with pytest.raises(ValueError, match="floor"):
        ov.weigh(torch.ones(2, 2), affinity, floor=2)
    assert ov.weigh(torch.rand(3, 4, 4), affinity).shape == (3, 4, 4)


def test_otsu_finds_the_cut_between_two_groups():
    heat = torch.cat([torch.linspace(0.1, 0.12, 40), torch.linspace(0.2, 0.22, 24)]).reshape(8, 8)
    # scikit-image cuts at the middle of one of 256 bins, so a value on the cut may fall to either side.
    for map_, count in zip(ov.binarize(torch.stack([heat, 100 - heat]), "otsu"), (24, 40), strict=True):
        assert abs(int(map_.sum()) - count) <= 1
    with pytest.raises(ValueError, match="otsu"):
        ov.binarize(heat, "ostu")


class TestDenseCrf:
    @pytest.fixture
    def scene(self):
        """A red disc on green, and a square that covers it roughly."""
        y, x = np.mgrid[:40, :60]
        disc = (y - 20) ** 2 + (x - 30) ** 2 < 144
        image = np.where(disc[..., None], [220, 30, 30], [30, 160, 30]).astype(np.uint8)
        guess = torch.full((40, 60), 0.2)
        guess[10:30, 20:40] = 0.8
        return image, torch.from_numpy(disc), torch.stack([1 - guess, guess])

    def test_masks_stop_at_edges(self, scene):
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
        image, disc, guess = scene
        sharper = ov.dense_crf(guess, image)
        assert sharper.shape == guess.shape and torch.allclose(
            sharper.sum(dim=0), torch.ones(40, 60), atol=1e-4
        )
        wrong_before = ((guess[1] > 0.5) != disc).sum()
        assert ((sharper[1] > 0.5) != disc).sum() < wrong_before / 10

    def test_its_reach_is_a_share_of_the_longer_side(self, scene):
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
        image, _, guess = scene
        assert torch.equal(ov.dense_crf(guess, image), ov.dense_crf(guess, image, reach=60 * 80 / 512))
        assert not torch.equal(ov.dense_crf(guess, image), ov.dense_crf(guess, image, reach=80.0))

    def test_shapes_that_do_not_fit_are_refused(self, scene):
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
        image, _, guess = scene
        for wrong in (guess[1], guess[:1], guess[:, :20]):
            with pytest.raises(ValueError, match=r"\(class, h, w\)"):
                ov.dense_crf(wrong, image)

    def test_without_the_package_the_remedy_is_named(self, scene, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
        with pytest.raises(ImportError, match="compiler"):
            ov.dense_crf(scene[2], scene[0])


def test_each_map_is_scaled_by_itself():
    two = torch.tensor([[[2.0, 4.0, 3.0]], [[7.0, 7.0, 7.0]]])
    assert minmax(two).tolist() == [[[0, 1, 0.5]], [[0, 0, 0]]]
