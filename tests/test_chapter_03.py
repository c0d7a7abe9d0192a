"""Chapter 03: what its exercises accept, and what it measures."""

import pytest
import torch
from matplotlib.figure import Figure
from shared_fixtures import bundled_pipe

from ovamnb.course import any_word, placed_words, reach
from ovamnb.course.whole_map import WHOLE_MAP, whole_map
from ovamnb.emoji.recorded import traces
from ovamnb.emoji.streams import stream

GIVEN = ("queries", "key_weights", "states", "blocks")


@pytest.fixture(scope="module")
def given():
    """What the notebook hands to the judge of 03.c."""
    scene = stream("validation", 13, objects=2)[12]
    ((_, trace, _),) = traces(bundled_pipe(), [scene])
    return {"trace": trace, "word": "car", "mask": torch.from_numpy(scene.mask("car"))}


class TestShares:
    def test_a_second_mention_is_a_second_token(self):
        scores = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
        said = torch.cat([scores, scores[:, 2:3].expand(-1, 3)], dim=-1).softmax(dim=-1)
        assert torch.allclose(any_word.share_of_a_mention(scores, 2, 4), said[:, 2])


class TestWholeMap:
    def test_is_that_of_a_recording(self, trace):
        names, half, _ = trace.select()
        text = trace.text_encoder.encode("a cat on grass")
        queries = {name: trace.queries[half][name][:, 0] for name in names}
        blocks = {name: trace.blocks[name] for name in names}
        mine = whole_map(queries, trace.key_weights, text.states, blocks)
        assert torch.allclose(mine, trace.maps("a cat on grass").values, atol=1e-4)

    def test_cases_have_several_grids_and_none_is_square(self):
        for case in WHOLE_MAP.cases(torch.Generator().manual_seed(0)):
            blocks = dict(zip(GIVEN, case, strict=True))["blocks"]
            grids = {block.grid for block in blocks.values()}
            assert len(grids) > 1 and all(h != w for h, w in grids)

    def test_a_bias_makes_no_difference(self):
        """Which is why no idea of the exercise is about it."""
        queries, weights, states, blocks = WHOLE_MAP.cases(torch.Generator().manual_seed(0))[0]
        without = {name: torch.cat([w[:-1], 0 * w[-1:]]) for name, w in weights.items()}
        with_bias = whole_map(queries, weights, states, blocks)
        assert torch.allclose(whole_map(queries, without, states, blocks), with_bias, atol=1e-4)


class TestJudgeOfTexts:
    def test_the_solution_is_well_above(self, given):
        text = "a photograph of a car and a bus"
        reached, sentence = any_word.judge_text(text, **given)
        assert reached and "the plain text's" in sentence
        plain = any_word.iou_of(given["trace"], "a photograph of car", "car", given["mask"])
        mine = any_word.iou_of(given["trace"], text, "car", given["mask"])
        assert mine > plain + any_word.MARGIN + 0.02

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("car", "takes nothing yet"),
            ("a photograph of car", "takes nothing yet"),
            ("a car and a bus", "Is everything in the picture named?"),
            ("a car and a bus on grass", "the other words count"),
            ("car car car car car", "is wanted"),
            ("a car and a guitar and a tree and an umbrella", "is wanted"),
            ("a bus on grass", "cannot be used"),  # no car
            ("a car and a qqxyz", "cannot be used"),
            ("", "cannot be used"),
            (1.0, "is a string"),
            (["car", "bus"], "is a string"),
        ],
    )
    def test_other_texts_are_not_enough(self, given, text, part):
        reached, sentence = any_word.judge_text(text, **given)
        assert not reached and part in sentence


class TestReach:
    def test_counts_a_few_scenes(self):
        found = reach.measure(bundled_pipe(), pool=12)
        assert list(found.grids)[-1] == reach.SUM
        scenes = sum(map(len, (hits for (way, _), hits in found.hits.items() if way == "class names")))
        assert scenes % 2 == 0 and found.scenes == scenes / 2 > 0
        for way in reach.WAYS:
            assert 0.5 < found.hit_rate(way) <= 1
        assert all(overlap <= union for overlap, union in found.areas.values())
        assert all(
            value == pytest.approx(1) for (way, _), value in found.nearness.items() if way == "class names"
        )
        assert isinstance(reach.draw(found), Figure) and isinstance(reach.draw_nearness(found), Figure)

    def test_a_pool_without_such_scenes_is_refused(self):
        with pytest.raises(ValueError, match="larger pool"):
            reach.measure(None, pool=0)

    def test_a_stage_is_what_maps_gives(self, given):
        trace = given["trace"]
        for stage, maps in reach._by_stage(trace, "a car and a bus", 0, reach._stages(trace)).items():
            blocks = None if stage == reach.SUM else stage
            assert torch.equal(maps["bus"], trace.maps("a car and a bus", blocks=blocks)["bus"])

    def test_only_classes_with_a_held_out_word_count_for_it(self):
        found = reach.Reach()
        for way in ("class names", "held-out words"):
            for concept, overlap in (("cat", 1.0), ("bird", 4.0)):  # there is no held-out word for a bird
                found.hits[way, concept] += [concept == "cat"]
                found.areas[way, reach.SUM, concept] += torch.tensor([overlap, 4.0])
        assert found.concepts("held-out words") == ["cat"] and found.concepts("class names") == [
            "bird",
            "cat",
        ]
        assert found.hit_rate("held-out words") == 1 and found.hit_rate("class names") == 0.5
        assert found.miou("held-out words") == 0.25 and found.miou("class names") == pytest.approx(0.625)
        assert found.kept("held-out words", reach.SUM) == 1


class TestPlacedWords:
    def test_the_stored_result_has_what_the_figure_shows(self):
        rows, first = (placed_words.stored()[name] for name in ("rows", "first"))
        for kind in placed_words.KINDS:
            row = rows[f"16×16 | mask | {kind}"]
            assert all(len(row[name]) == len(first) for name in ("own", "control", "chance"))
        best = rows["16×16 | mask | class"]
        assert best["own"][-1] > 0.5 and best["control"][-1] < 0.2  # what the chapter says of it
        assert isinstance(placed_words.draw_accuracy(), Figure)

    def test_scene_words_are_those_of_the_scenes(self):
        assert {"cat", "kitten", "animal", "grass"} <= set(placed_words.SCENE_WORDS)
        assert "ecommerce" not in placed_words.SCENE_WORDS


def test_the_drawing_is_drawn():
    assert isinstance(any_word.diagram(), Figure)
