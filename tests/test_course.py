"""Do the checks name a wrong idea? Do predictions ship empty, and do the solutions solve?

nbval cannot tell: a notebook re-run on wrong mathematics compares wrong numbers with wrong numbers that were
stored. So mistakes are planted in the package, and wrong answers are given to the exercises.
"""

import ast
import contextlib
import io
import itertools
import re
from functools import cache

import nbformat
import pytest
import torch

import ovamnb.layout
import ovamnb.maps
from ovamnb.course.exercises import SEED, Exercise, verdict_of
from ovamnb.course.syllabus import CHAPTERS, load
from workshop.measure import chapters

EXERCISES = {e.name: e for number in CHAPTERS for e in load(number).EXERCISES}
COMPARED = {name: exercise for name, exercise in EXERCISES.items() if isinstance(exercise, Exercise)}
IDEAS = [(name, idea) for name, exercise in COMPARED.items() for idea in exercise.ideas]
STARS = (1, 2, 3)


def path_of(chapter: str):
    (path,) = (path for path in chapters.paths() if path.stem.startswith(chapter))
    return path


def code_of(chapter: str) -> list[chapters.Cell]:
    return chapters.cells(path_of(chapter))


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


class TestExercise:
    """What each exercise's check says to the right answer, to every wrong idea it knows, and to none."""

    @pytest.mark.parametrize("name", COMPARED)
    def test_the_right_answer_is_right(self, name: str) -> None:
        assert verdict_of(COMPARED[name], COMPARED[name].right).right is True

    @pytest.mark.parametrize(("name", "idea"), IDEAS)
    def test_a_wrong_idea_is_named(self, name: str, idea: str) -> None:
        verdict = verdict_of(COMPARED[name], COMPARED[name].ideas[idea])
        assert verdict.right is False and verdict.text == idea

    @pytest.mark.parametrize("name", COMPARED)
    def test_no_constant_passes(self, name: str) -> None:
        exercise = COMPARED[name]
        for case in exercise.cases(torch.Generator().manual_seed(SEED)):
            always = exercise.right(*case)
            assert verdict_of(exercise, lambda *_, always=always: always).right is False
        for constant in (0, 1 / 3, torch.zeros(()), torch.ones(2, 3), ""):
            assert verdict_of(exercise, lambda *_, constant=constant: constant).right is False

    @pytest.mark.parametrize("name", COMPARED)
    def test_it_does_not_hang_on_one_draw(self, name: str) -> None:
        """The right answer is right on other random inputs, too, and no idea is right by chance."""
        exercise = COMPARED[name]
        for seed in range(3):
            cases = exercise.cases(torch.Generator().manual_seed(100 + seed))
            right = exercise.seen(exercise.right, cases)
            assert exercise._same(exercise.seen(exercise.right, cases), right)
            for idea, wrong in exercise.ideas.items():
                assert not exercise._same(exercise.seen(wrong, cases), right), idea

    @pytest.mark.parametrize("name", COMPARED)
    def test_what_is_no_function_is_not_run(self, name: str) -> None:
        assert verdict_of(COMPARED[name], None).right is None
        assert "Hand over the function itself" in verdict_of(COMPARED[name], 3).text

    @pytest.mark.parametrize("name", EXERCISES)
    def test_an_empty_stub_is_not_written_yet(self, name: str) -> None:
        empty = (lambda *_: None) if name in COMPARED else None
        assert verdict_of(EXERCISES[name], empty).right is None


def calls(source: str, function: str) -> list[ast.Call]:
    """The calls of `ov.<function>` in a cell."""
    with contextlib.suppress(SyntaxError):  # a cell with %pip
        return [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and ast.unparse(node.func) == f"ov.{function}"
        ]
    return []


@pytest.mark.parametrize("number", CHAPTERS)
class TestChapter:
    """What the notebook asks is what its module lists; nothing ships solved."""

    @staticmethod
    def cells(number: str) -> list:
        return nbformat.read(path_of(number), as_version=4).cells

    def names(self, number: str, function: str) -> list[str]:
        code = [cell.source for cell in self.cells(number) if cell.cell_type == "code"]
        return [call.args[0].value for source in code for call in calls(source, function)]

    def test_asks_for_every_prediction_once_and_in_order(self, number: str) -> None:
        asked = self.names(number, "predict")
        assert asked == list(load(number).PREDICTIONS) == [f"{number}.{i + 1}" for i in range(len(asked))]
        assert len(asked) >= 3

    def test_has_every_exercise_once(self, number: str) -> None:
        assert sorted(self.names(number, "check")) == [e.name for e in load(number).EXERCISES]

    def test_has_an_exercise_of_each_grade(self, number: str) -> None:
        assert {e.stars for e in load(number).EXERCISES} == set(STARS)

    def test_predictions_ship_empty(self, number: str) -> None:
        """The cell before each answer holds the guess alone, and nothing is guessed in it."""
        code = [cell for cell in self.cells(number) if cell.cell_type == "code"]
        for guess, answer in itertools.pairwise(code):
            for call in calls(answer.source, "predict"):
                variable = ast.unparse(call.args[1])
                names: dict = {}
                exec(guess.source, names)
                said = names[variable]
                assert said is None or set(said.values()) == {None}, guess.source
                assert set(names) <= {"__builtins__", variable}

    def test_every_exercise_has_a_hint_and_a_solution_folded(self, number: str) -> None:
        cells = self.cells(number)
        for i, cell in enumerate(cells):
            if cell.cell_type == "code" and calls(cell.source, "check"):
                after = cells[i + 1].source
                assert "<details><summary>Hint</summary>" in after, cell.source
                assert "<details><summary>Solution</summary>" in after, cell.source
                assert after.count("<details>") == after.count("</details>")

    def test_ships_unsolved(self, number: str) -> None:
        for cell in self.cells(number):
            if cell.cell_type == "code" and calls(cell.source, "check"):
                [said] = [output.text for output in cell.outputs if output.get("name") == "stdout"]
                assert said.startswith("… No"), said


@cache
def played(number: str) -> dict:
    """The variables among which a chapter's exercises and solutions stand: the cells they need, run once."""
    cells = code_of(number)
    asking = [cell for cell in cells if calls(cell.code, "check")]
    written = [cell.code for cell in asking] + [code for code, _ in solutions(number).values()]
    names = {name for code in written for name in chapters.names_in(code)[1]}
    wanted = [cell for cell in chapters.needed(cells, names) if cell not in asking]
    return chapters.run(wanted)


def solutions(number: str) -> dict[str, tuple[str, str]]:
    """Exercise → (the code of its solution, the call that checks it)."""
    cells = nbformat.read(path_of(number), as_version=4).cells
    found = {}
    for cell, after in itertools.pairwise(cells):
        for call in calls(cell.source, "check") if cell.cell_type == "code" else ():
            folded = after.source.split("<summary>Solution</summary>")[1].split("</details>")[0]
            code = "\n".join(re.findall(r"```python\n(.*?)```", folded, re.S))
            found[call.args[0].value] = (code, ast.unparse(call))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_solves(name: str) -> None:
    code, call = solutions(name[:2])[name]
    variables = dict(played(name[:2]))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "<solution>", "exec"), variables)
        said.truncate(0), said.seek(0)
        exec(call, variables)
    assert said.getvalue().startswith("✓"), said.getvalue()
