"""The strict measure of drawn pictures: high on what is rendered, low on other things and on blotches."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ovamnb.emoji import CONCEPTS, scene
from workshop.measure import generation, recognise
from workshop.measure.recognise import RECOGNISED, band_pass, blurred, recognition

SHOWN = {"cat": "night", "car": "grass", "train": "wood", "tree": "snow"}
SIDES = (52, 60, 69, 80)  # a quarter of the usual ones, for the sake of time


def shown(concept):
    """A scene of this concept alone, of a size near one of those that are looked for."""
    return scene(5, concepts=[concept], ground_name=SHOWN[concept], sides=((58, 62),))


@pytest.mark.parametrize("concept", SHOWN)
def test_a_rendered_object_is_recognised_and_taken_for_no_other(concept):
    image = shown(concept).image
    values = {name: recognition(image, name, SIDES) for name in SHOWN}
    assert values.pop(concept) >= RECOGNISED + 0.1 and max(values.values()) < RECOGNISED - 0.05


def test_a_blotch_of_the_right_colour_and_size_is_not_recognised():
    for concept in ("cat", "car", "train"):  # a tree is little else
        picture = shown(concept)
        colour = tuple(np.median(picture.image[picture.mask(concept)], axis=0).astype(int).tolist())
        blotch = Image.fromarray(picture.image)
        ImageDraw.Draw(blotch).ellipse(picture.objects[0].box, fill=colour)
        assert recognition(np.array(blotch), concept, SIDES) < RECOGNISED


def test_places_flips_and_other_shapes_of_pictures_do_not_matter():
    image = shown("car").image
    value = recognition(image, "car", SIDES)
    assert recognition(image[:, ::-1], "car", SIDES) == pytest.approx(value, abs=0.01)
    assert recognition(np.pad(image, ((0, 30), (0, 0), (0, 0)), mode="edge"), "car", SIDES) >= value - 0.02


def test_the_sprite_itself_on_a_flat_ground_is_one():
    ground = torch.tensor([90.0, 120.0, 200.0])
    template = recognise.on_ground("dog", "twitter", 60, ground)[0]
    image = ground[:, None, None].repeat(1, 90, 110)
    image[:, 20 : 20 + template.shape[1], 10 : 10 + template.shape[2]] = template
    image = image.permute(1, 2, 0).round().byte().numpy()
    assert recognition(image, "dog", (60,)) > 0.98
    # its edge on the picture's own edge
    assert recognition(image[20 + recognise.MARGIN :, 10 + recognise.MARGIN :], "dog", (60,)) > 0.95


def test_a_picture_smaller_than_every_sprite_is_refused():
    with pytest.raises(ValueError, match="No sprite with a side of 46 or more fits into 26×26 pixels"):
        recognition(np.zeros((20, 20, 3), np.uint8), "cat")


def test_a_flat_picture_shows_nothing():
    assert recognition(np.full((80, 80, 3), 90, np.uint8), "cat", (60,)) == pytest.approx(0, abs=1e-3)


def test_the_band_keeps_outlines_and_drops_light():
    flat = torch.full((1, 3, 30, 40), 7.0)
    assert band_pass(flat).abs().max() < 1e-4
    spot = torch.zeros(1, 1, 41, 41)
    spot[..., 20, 20] = 1
    spread = blurred(spot, 2.0)[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-4) and torch.allclose(spread, spread.T)
    assert spread[20, 22] / spread[20, 20] == pytest.approx(np.exp(-0.5), abs=1e-4)


def test_a_sheet_puts_the_pictures_of_a_concept_side_by_side():
    pictures = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(6)]  # three concepts, two rounds
    page = generation.sheet(pictures, each=2, columns=2)
    assert page.size == (16, 8)
    assert [page.getpixel((x, y))[0] for y in (0, 4) for x in (0, 4, 8, 12)] == [0, 3, 1, 4, 2, 5, 0, 0]
    assert len(CONCEPTS) == 28
