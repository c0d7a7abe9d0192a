"""Do the notebooks' checks notice a wrong idea, and say which?

nbval cannot tell: a notebook re-run on wrong mathematics compares wrong numbers with wrong numbers that were
stored. So mistakes are planted in the package, and wrong answers are given to the exercises.
"""

from functools import cache

import pytest
import torch

import ovamnb.layout
import ovamnb.maps
from ovamnb.evaluation.metrics import confusion, iou, mean_iou, overlap
from ovamnb.refine import minmax
from ovamnb.segmentation import labels_of
from ovamnb.synthesize.label_maps import label_map
from workshop.measure import chapters


def code_of(chapter: str) -> list[chapters.Cell]:
    (path,) = (path for path in chapters.paths() if path.stem.startswith(chapter))
    return chapters.cells(path)


def play(chapter: str) -> dict:
    """Run a chapter, save the long measurements; all its variables."""
    return chapters.run([cell for cell in code_of(chapter) if "measurement" not in cell.tags])


def over_pixels(scores: torch.Tensor) -> torch.Tensor:
    return scores.softmax(dim=-2)


def heads_averaged(scores: torch.Tensor) -> torch.Tensor:
    """As high as the right map, so that only its pattern gives it away."""
    return scores.mean(dim=-3, keepdim=True).softmax(dim=-1).expand_as(scores)


@pytest.mark.slow
class TestPlantedFault:
    """A wrong idea in the package stops chapter 02, with a sentence that names it."""

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [(over_pixels, "over tokens, not over pixels"), (heads_averaged, "averaged before the softmax")],
    )
    def test_in_the_formula(self, monkeypatch, wrong, sentence: str) -> None:
        right = ovamnb.maps.attention
        monkeypatch.setattr(
            ovamnb.maps,
            "attention",
            lambda *args, **options: wrong(right(*args, **options | {"softmax": False})),
        )
        with pytest.raises(AssertionError, match=sentence):
            play("02")

    def test_halves_of_the_batch_swapped(self, monkeypatch) -> None:
        right = ovamnb.layout.batch_layout
        monkeypatch.setattr(ovamnb.layout, "batch_layout", lambda *args: tuple(reversed(right(*args))))
        with pytest.raises(AssertionError, match="unconditional half"):
            play("02")


@cache
def attempt(chapter: str) -> tuple[dict, Exception | None]:
    """What the check of a chapter's exercise needs, run once: a failure is kept, too, not run into again."""
    variables: dict = {"__name__": "__main__"}
    try:
        return chapters.run(chapters.needed(code_of(chapter), {"check"}), variables=variables), None
    except Exception as error:
        return variables, error


def played(chapter: str) -> dict:
    """The variables that the check of a chapter's exercise stands among."""
    variables, error = attempt(chapter)
    if error is not None:
        raise error
    return variables


def of_chapter_02(combine):
    """An answer made of the scores (head, h·w, token) of a layer and its number of heads."""

    def layer_map(query, key, heads, scale):
        per_head = played("02")["per_head_attention"]
        return combine(per_head(query, key, heads=heads, scale=scale, softmax=False), heads)

    return layer_map


def of_chapter_03(combine):
    """An answer made of `trace.maps`, the word, and all the words that are named."""
    return lambda trace, word, rivals: combine(trace.maps, word, [word, *rivals])


def of_chapter_04(combine):
    """An answer made of the flat heat (h·w), the affinity (h·w, h·w) and the number of rounds."""
    return lambda heat, affinity, power: combine(heat.flatten(), affinity, power).unflatten(0, heat.shape)


def of_chapter_07(rule):
    """An answer from the confusions of single pictures, (picture, class + 1, class + 1)."""

    def answer(pictures, classes):
        return float(rule(torch.stack([confusion(labels, truth, classes) for labels, truth in pictures])))

    return answer


def of_chapter_08(choose):
    """An answer made of what each pixel becomes where it exceeds high, lies between, or does not exceed low;
    `choose` has the labels and the positions of the best classes."""

    def answer(scores, labels, low, high):
        best, index = scores.max(dim=0)
        own, between, below = choose(torch.tensor(labels)[index], index)
        return torch.where(best > high, own, torch.where(best > low, between, below))

    return answer


ANSWERS = {
    "02": {
        "Right": of_chapter_02(lambda scores, heads: scores.softmax(-1).sum(0).T),
        "The softmax runs over pixels": of_chapter_02(lambda scores, heads: scores.softmax(1).sum(0).T),
        "The heads were averaged": of_chapter_02(lambda scores, heads: scores.mean(0).softmax(-1).T),
        "The scale is missing": of_chapter_02(
            lambda scores, heads: (scores / played("02")["block"].scale).softmax(-1).sum(0).T
        ),
        "This is the mean": of_chapter_02(lambda scores, heads: scores.softmax(-1).mean(0).T),
        "The shape should be": of_chapter_02(lambda scores, heads: scores.softmax(-1).sum(0)),
        "Not right": of_chapter_02(lambda scores, heads: scores.sum(0).T),
    },
    "03": {
        "Right": of_chapter_03(
            lambda maps, word, named: maps(sorted(named))[word] / sum(maps(sorted(named))[w] for w in named)
        ),
        "Nearly": of_chapter_03(
            lambda maps, word, named: maps(named)[word] / sum(maps(named)[w] for w in named)
        ),
        "Almost": of_chapter_03(
            lambda maps, word, named: (
                maps(f"a photograph of {word}")[word] / sum(maps(f"a photograph of {w}")[w] for w in named)
            )
        ),
        "The words you named share only": of_chapter_03(lambda maps, word, named: maps(named).share[word]),
        "The words' scores should sum to 1": of_chapter_03(lambda maps, word, named: maps(named)[word]),
        "Every word's best pixel": of_chapter_03(
            lambda maps, word, named: maps(named)[word] / maps(named)[word].max()
        ),
        "A softmax over one token": of_chapter_03(
            lambda maps, word, named: torch.ones_like(maps(named)[word])
        ),
        "Each score should be a map": of_chapter_03(lambda maps, word, named: maps(named)[word].flatten()),
    },
    "04": {
        "Right": of_chapter_04(lambda flat, near, power: near @ (near @ flat)),
        "affinity**2 squares": of_chapter_04(lambda flat, near, power: near**power @ flat),
        "You went down the columns": of_chapter_04(lambda flat, near, power: near.T @ (near.T @ flat)),
        "That is one round": of_chapter_04(lambda flat, near, power: near @ flat),
        "That multiplies by the attention received": of_chapter_04(
            lambda flat, near, power: flat * near.sum(dim=0)
        ),
        "The shape should be": lambda heat, affinity, power: affinity @ heat.flatten(),
        "Not right": of_chapter_04(lambda flat, near, power: flat),
    },
    "05": {
        "Right": lambda scores: torch.sigmoid(scores[:, -1] - scores[:, :-1].logsumexp(-1)),
        "You summed scores": lambda scores: torch.sigmoid(scores[:, -1] - scores[:, :-1].sum(-1)),
        "That is the mean": lambda scores: torch.sigmoid(scores[:, -1] - scores[:, :-1].mean(-1)),
        "Only the strongest": lambda scores: torch.sigmoid(scores[:, -1] - scores[:, :-1].amax(-1)),
        "The log is missing": lambda scores: torch.sigmoid(scores[:, -1] - scores[:, :-1].exp().sum(-1)),
        "The sign is turned": lambda scores: torch.sigmoid(scores[:, :-1].logsumexp(-1) - scores[:, -1]),
        "Each class against nothing": lambda scores: torch.sigmoid(scores[:, -1]),
        "The shape should be": lambda scores: scores.softmax(-1),
        "Not right": lambda scores: torch.zeros(len(scores)),
    },
    "06": {
        "Right": lambda heat, background: labels_of(minmax(heat), background),
        "One minimum and maximum": lambda heat, background: labels_of(
            (heat - heat.min()) / (heat.max() - heat.min()), background
        ),
        "Nothing was stretched": labels_of,
        "No pixel is background": lambda heat, background: minmax(heat).argmax(0) + 1,
        "Off by one": lambda heat, background: (labels_of(minmax(heat), background) - 1).clamp(min=0),
        "A softmax over classes": lambda heat, background: labels_of(minmax(heat).softmax(0), background),
        "The shape should be": lambda heat, background: labels_of(minmax(heat), background).T,
        "Not right": lambda heat, background: labels_of(minmax(heat), background + 0.2),
    },
    "07": {
        "Right": of_chapter_07(lambda tables: mean_iou(tables.sum(dim=0))),
        "Silence is rewarded": lambda pictures, classes: played("07")["my_score"](pictures, classes),
        "A mean over pictures": of_chapter_07(
            lambda tables: torch.tensor([mean_iou(table) for table in tables]).nanmean()
        ),
        "The background is no class": of_chapter_07(
            lambda tables: mean_iou(tables.sum(dim=0), background=True)
        ),
        "255 counts": lambda pictures, classes: ANSWERS["07"]["Right"](
            [(labels, torch.where(truth == 255, 0, truth)) for labels, truth in pictures], classes
        ),
        "All classes in one pot": of_chapter_07(
            lambda tables: (
                tables.sum(dim=0).diagonal()[1:].sum() / sum(overlap(table)[1][1:].sum() for table in tables)
            )
        ),
        "The third class": of_chapter_07(lambda tables: iou(tables.sum(dim=0))[1:].nan_to_num(0).mean()),
        "Not right": of_chapter_07(lambda tables: mean_iou(tables.sum(dim=0)) ** 2),
    },
    "08": {
        "Right": label_map,
        "The position of a class": of_chapter_08(lambda own, index: (index + 1, 255, 0)),
        "What lies between the thresholds is background in your map: the network": of_chapter_08(
            lambda own, index: (own, 0, 0)
        ),
        "What lies between the thresholds is background in your map: and": lambda *given: played("08")[
            "my_labels"
        ](*given),
        "Everything below high": of_chapter_08(lambda own, index: (own, 255, 255)),
        "The thresholds are the wrong way round": of_chapter_08(lambda own, index: (own, 0, 255)),
        "A score that equals low": lambda scores, own, low, high: torch.where(
            scores.amax(0) == low, 255, label_map(scores, own, low, high).long()
        ),
        "The shape should be": lambda *given: label_map(*given).T,
        "Not right": lambda scores, own, low, high: label_map(scores, own, 0, 1),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "verdict"), [(chapter, verdict) for chapter in ANSWERS for verdict in ANSWERS[chapter]]
)
def test_the_check_of_an_exercise_names_the_idea(chapter: str, verdict: str) -> None:
    assert played(chapter)["check"](ANSWERS[chapter][verdict]).startswith(verdict)
