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


class TestWhatCannotBeRefined:
    def test_an_affinity_whose_rows_do_not_sum_to_one(self):
        for wrong in (2 * affinity(12), affinity(12).T, affinity(12).log(), torch.full((12, 12), torch.nan)):
            for refine in (ov.complete, ov.weigh):
                with pytest.raises(ValueError, match="rows sum to 1, but one of these is off by"):
                    refine(torch.rand(3, 4), wrong)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_near_enough(self, dtype):
        """The rows of a grid of 64×64, nearly all of whose entries are below what float16 holds exactly."""
        heat, attends = torch.rand(64, 64), affinity(64 * 64)
        assert ov.complete(heat, attends.to(dtype)).dtype == dtype
        assert ov.weigh(heat, attends.to(dtype)).isfinite().all()

    def test_heat_that_is_not_finite(self):
        for value in (torch.nan, torch.inf):
            heat = torch.rand(3, 4)
            heat[1, 2] = value
            for refine in (
                lambda heat: ov.complete(heat, affinity(12)),
                lambda heat: ov.weigh(heat, affinity(12)),
                lambda heat: ov.resize(heat, (5, 5)),
                ov.binarize,
            ):
                with pytest.raises(ValueError, match="The heat map holds values that are not finite"):
                    refine(heat)

    def test_numpy_is_taken_for_what_it_is(self):
        heat, attends = torch.rand(3, 4), affinity(12)
        assert ov.complete(heat.numpy(), attends.numpy()).equal(ov.complete(heat, attends))
        assert ov.weigh(heat.numpy()[::-1, ::-1], attends.numpy()).equal(ov.weigh(heat.flip(0, 1), attends))
        assert ov.complete(heat, torch.eye(12, dtype=torch.int64)).allclose(heat)
        for wrong in ("cat", None, object(), [[1.0], [1.0, 2.0]], torch.rand(3, 4) * 1j, []):
            with pytest.raises((TypeError, ValueError), match=r"heat map is a tensor|has the shape \(h, w\)"):
                ov.complete(wrong, attends)

    @pytest.mark.parametrize("power", [1e30, 10**12, 2.5, None, "2", True])
    def test_a_power_that_never_ends(self, power):
        with pytest.raises(
            (TypeError, ValueError), match="power counts completions: a whole number from 1 to"
        ):
            ov.complete(torch.rand(3, 4), affinity(12), power=power)

    def test_sizes_that_are_none(self):
        for wrong in ("32", (3.7, 4.2), (torch.nan, 4), None, (4,), b"32"):
            with pytest.raises(TypeError, match="an image or a size"):
                ov.resize(torch.rand(3, 4), wrong)
        for wrong in ((10**12, 10**12), (1e30, 2)):
            with pytest.raises(ValueError, match="at most 268,435,456 pixels"):
                ov.resize(torch.rand(3, 4), wrong)
        assert ov.resize(torch.rand(3, 4), (6.0, np.int64(8))).shape == (6, 8)

    def test_channels_where_they_do_not_belong(self):
        for wrong in (torch.rand(16, 24, 3), np.zeros((3, 16, 24)), np.zeros((2, 16, 24, 3))):
            with pytest.raises(ValueError, match=r"or give the size \(|move its channels"):
                ov.resize(torch.rand(3, 4), wrong)
        for right in (torch.rand(1, 3, 16, 24), torch.rand(5, 16, 24), np.zeros((16, 24, 4))):
            assert ov.resize(torch.rand(3, 4), right).shape == (16, 24)


class TestDenseCrfRefuses:
    PROBABILITIES, IMAGE = torch.full((2, 16, 24), 0.5), np.zeros((16, 24, 3), np.uint8)

    @pytest.fixture(autouse=True)
    def _is_installed(self):
        pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")

    @pytest.mark.parametrize("name", ["reach", "contrast", "nearness"])
    @pytest.mark.parametrize("value", [0, 0.0, -3.0, torch.nan, torch.inf, 1e-6, 1e30, "3", True])
    def test_lengths_that_would_end_the_interpreter(self, name, value):
        with pytest.raises((ValueError, TypeError), match=f"{name} counts .*: a number from 0.1 to"):
            ov.dense_crf(self.PROBABILITIES, self.IMAGE, **{name: value})

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"appearance": -1.0}, "appearance is a number from 0 to"),
            ({"smoothness": torch.nan}, "smoothness is a number from 0 to"),
            ({"iterations": 10**12}, "iterations is a whole number from 0 to 1000"),
            ({"iterations": 2.5}, "iterations is a whole number"),
        ],
    )
    def test_weights_and_iterations(self, options, says):
        with pytest.raises((ValueError, TypeError), match=says):
            ov.dense_crf(self.PROBABILITIES, self.IMAGE, **options)

    def test_probabilities_that_are_none(self):
        with pytest.raises(ValueError, match="probabilities holds values that are not finite"):
            ov.dense_crf(self.PROBABILITIES * torch.nan, self.IMAGE)
        with pytest.raises(ValueError, match="Probabilities are 0 or more"):
            ov.dense_crf(self.PROBABILITIES - 1, self.IMAGE)
        found = ov.dense_crf(self.PROBABILITIES.numpy(), self.IMAGE)
        assert found.equal(ov.dense_crf(self.PROBABILITIES, self.IMAGE))
