"""Completion, resizing, thresholds."""

import numpy as np
import pytest
import torch
from PIL import Image

import ovamnb as ov


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
