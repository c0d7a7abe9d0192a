"""Predictions start empty and show nothing; exercises are checked; what a reader did is kept or forgotten."""

import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch

import ovamnb as ov
from ovamnb.course import exercises, predictions, progress, syllabus
from ovamnb.course.exercises import Exercise, Open

DOUBLE = Exercise(
    name="00.a",
    title="twice",
    stars=1,
    cases=lambda generator: [
        (torch.rand(2, 3, generator=generator),),
        (torch.rand(4, 1, generator=generator),),
    ],
    right=lambda x: 2 * x,
    ideas={"That is the square.": lambda x: x**2, "That is a half.": lambda x: x / 2},
    says="Twice as much.",
)
LARGE = Open("00.b", "a large number", lambda answer, than: (answer > than, f"{answer} against {than}"))


@pytest.fixture(autouse=True)
def chapter(monkeypatch, tmp_path):
    """A chapter of two predictions and two exercises, and a progress file of its own."""
    module = SimpleNamespace(
        TITLE="A chapter",
        PREDICTIONS={"00.1": "which is larger", "00.2": "two things"},
        EXERCISES=(DOUBLE, LARGE),
    )
    for place in (syllabus, predictions, exercises):
        monkeypatch.setattr(place, "load", lambda number: module)
    monkeypatch.setenv("OVAMNB_PROGRESS", str(tmp_path / "kept" / "progress.json"))
    return tmp_path / "kept" / "progress.json"


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would be handed to display: one mapping of kinds for each output."""
    found = []
    monkeypatch.setattr(predictions, "publish", found.append)
    return found


class TestAPredictionThatIsNotMade:
    def test_folds_the_answer_away_and_asks(self, shown, capsys):
        with ov.predict("00.1", None, ("a", "b")) as answer:
            print("the secret <word>")
            found = 3
            answer("a")
        assert found == 3 and "secret" not in capsys.readouterr().out
        [output] = shown
        assert output["text/plain"].startswith("✎ Write your prediction first")
        assert "which is larger" in output["text/plain"] and "'a', 'b'" in output["text/plain"]
        assert "secret" not in output["text/plain"]
        before, folded = output["text/html"].split("<details>")
        assert "secret" not in before and "the secret &lt;word&gt;" in folded

    def test_starts_no_shell_where_there_is_none(self, capsys):
        from IPython.core.interactiveshell import InteractiveShell

        before = InteractiveShell.initialized()
        with ov.predict("00.1", None, ("a", "b")) as answer:
            answer("a")
        assert InteractiveShell.initialized() is before and "✎ Write" in capsys.readouterr().out

    def test_names_what_is_missing_of_several(self, shown):
        said, expects = {"x": 1.0, "y": None}, {"x": float, "y": ("a", "b")}
        with ov.predict("00.2", said, expects) as answer:
            answer({"x": 1.0, "y": "a"})
        assert "still None: y" in shown[0]["text/plain"]

    def test_says_once_what_several_things_can_be(self, shown):
        with ov.predict("00.2", {"x": None, "y": None}, {"x": ("a", "b"), "y": ("a", "b")}) as answer:
            answer({"x": "a", "y": "b"})
        assert "for each of x, y: 'a', 'b'." in shown[0]["text/plain"]

    def test_is_not_kept(self, shown, chapter):
        with ov.predict("00.1", None, ("a", "b")) as answer:
            answer("a")
        assert not chapter.exists()

    def test_does_not_leave_a_figure_for_jupyter_to_show(self, shown):
        with ov.predict("00.1", None, ("a", "b")) as answer:
            plt.figure()
            answer("a")
        assert not plt.get_fignums()

    def test_a_failure_in_the_block_is_not_folded_away(self, shown, capsys):
        with pytest.raises(ZeroDivisionError):
            with ov.predict("00.1", None, ("a", "b")):
                print("came this far")
                1 / 0  # noqa: B018
        assert "came this far" in capsys.readouterr().out and not shown


class TestAPredictionThatIsMade:
    def test_is_held_against_the_answer(self, capsys, chapter):
        for said, sign in (("a", "✓"), ("b", "✗")):
            with ov.predict("00.1", said, ("a", "b")) as answer:
                print("measured")
                answer("a")
            assert capsys.readouterr().out == f"measured\n{sign} you said {said}, it is a\n"
        kept = json.loads(chapter.read_text())["predictions"]["00.1"]
        assert kept == {"said": "a", "right": True}, "the first one counts"

    @pytest.mark.parametrize(("said", "right"), [(0.5, True), (0.6, True), (0.61, False), (1, False)])
    def test_a_number_is_right_within_what_the_chapter_says(self, said, right, chapter):
        with ov.predict("00.1", said, float) as answer:
            answer(0.55, within=0.05 + 1e-9)
        assert json.loads(chapter.read_text())["predictions"]["00.1"]["right"] is right

    def test_of_several_things_counts_each(self, capsys, chapter):
        with ov.predict("00.2", {"x": 1.0, "y": "a"}, {"x": float, "y": ("a", "b")}) as answer:
            answer({"x": 1.04, "y": "b"}, within={"x": 0.05})
        said = capsys.readouterr().out
        assert "✓ x: " in said and "✗ y: " in said and "1 of 2 as predicted" in said
        assert not json.loads(chapter.read_text())["predictions"]["00.2"]["right"]

    @pytest.mark.parametrize(
        ("said", "expects", "remedy"),
        [
            ("c", ("a", "b"), "one of 'a', 'b'"),
            ("c", float, "is a number"),
            (True, int, "is a number"),
            (float("nan"), float, "is a finite number"),
            (torch.ones(2), ("a", "b"), "one of 'a', 'b'"),
            ("a", "ab", "float, int, choices"),
            ("a", (), "one at least"),
            ({}, {}, "one at least"),
            ({"x": 1}, {"x": int, "y": int}, "an entry for each of: x, y"),
            (3, {"x": int}, "an entry for each of: x"),
            ({"x": "c"}, {"x": ("a", "b")}, "one of 'a', 'b'"),
        ],
    )
    def test_of_another_kind_is_refused_before_the_block_runs(self, said, expects, remedy):
        ran = []
        with pytest.raises((ValueError, TypeError), match=remedy):
            with ov.predict("00.1", said, expects):
                ran.append(True)
        assert not ran

    def test_a_block_without_an_answer_is_the_author_s_mistake(self):
        with pytest.raises(RuntimeError, match="without an answer"):
            with ov.predict("00.1", "a", ("a", "b")):
                pass

    def test_of_a_name_that_is_not_there(self):
        with pytest.raises(KeyError, match=r"00\.1, 00\.2"):
            with ov.predict("00.7", "a", ("a", "b")) as answer:
                answer("a")


class TestCheck:
    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (lambda x: x + x, "✓ Right. Twice as much."),
            (lambda x: (x + x).numpy(), "✓ Right. Twice as much."),
            (lambda x: x * x, "✗ That is the square."),
            (lambda x: (2 * x).T, "✗ The shape should be (2, 3), not (3, 2)."),
            (lambda x: x.sum(), "✗ The shape should be (2, 3), not ()."),
            (lambda x: torch.ones(2, 3), "✗ Not right yet."),
            (lambda x: None, "… Not written yet"),
            (2.0, "✗ Hand over the function itself"),
            (lambda x: ..., "… Not written yet"),
            (lambda x: x.nothing, "✗ Your function stopped with AttributeError"),
            (lambda: None, "✗ Your function stopped with TypeError"),
        ],
    )
    def test_says_which_idea_it_is(self, answer, said, capsys):
        ov.check("00.a", answer)
        assert capsys.readouterr().out.startswith(said)

    def test_what_is_not_written_is_not_counted(self, chapter, capsys):
        def mine(x):
            raise NotImplementedError

        ov.check("00.a", mine)
        ov.check("00.b", None, than=3)
        assert capsys.readouterr().out.count("… No") == 2 and not chapter.exists()

    def test_an_open_one_is_judged_by_what_the_notebook_gives(self, capsys):
        ov.check("00.b", 2, than=3)
        ov.check("00.b", 4, than=3)
        assert capsys.readouterr().out.splitlines() == ["✗ 2 against 3", "✓ 4 against 3"]

    def test_solved_stays_solved(self, chapter):
        for answer in (lambda x: x, lambda x: 2 * x, lambda x: x):
            ov.check("00.a", answer)
        assert json.loads(chapter.read_text())["exercises"]["00.a"] == {"right": True, "tries": 3}

    def test_a_mistake_of_the_check_s_own_is_no_verdict(self):
        with pytest.raises(TypeError):
            ov.check("00.b", 4)

    def test_a_name_that_is_not_there(self):
        with pytest.raises(KeyError, match=r"00\.a, 00\.b"):
            ov.check("00.z", 1)


class TestProgress:
    def test_counts_what_was_predicted_and_solved(self):
        with ov.predict("00.1", "b", ("a", "b")) as answer:
            answer("a")
        ov.check("00.a", lambda x: 2 * x)
        page = ov.progress()
        assert len(page.chapters) == len(syllabus.CHAPTERS)
        assert "00 A chapter" in repr(page) and "1 of 2       0             1 of 2" in repr(page)
        assert "✗ 00.1 which is larger" in page._repr_html_() and "✓ 00.a twice" in page._repr_html_()

    def test_is_forgotten_when_asked(self, chapter):
        ov.check("00.a", lambda x: 2 * x)
        assert chapter.is_file()
        assert "0 of 2" in repr(ov.progress(forget=True)) and not chapter.exists()
        ov.progress(forget=True)

    def test_off_keeps_nothing(self, chapter, monkeypatch):
        monkeypatch.setenv("OVAMNB_PROGRESS", "off")
        ov.check("00.a", lambda x: 2 * x)
        assert "nothing is kept" in repr(ov.progress()) and not chapter.parent.exists()

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"predictions": 3, "exercises": {}}', '{"predictions": {}}']
    )
    def test_a_damaged_file_is_put_aside_and_the_chapter_goes_on(self, text, chapter, capsys):
        chapter.parent.mkdir()
        chapter.write_text(text)
        ov.check("00.a", lambda x: 2 * x)
        assert "was damaged" in capsys.readouterr().out
        assert chapter.with_suffix(".damaged").read_text() == text
        assert json.loads(chapter.read_text())["exercises"]["00.a"]["right"]

    def test_where_nothing_can_be_written_a_line_says_so(self, chapter, capsys):
        chapter.parent.write_text("a file, not a folder")
        ov.check("00.a", lambda x: 2 * x)
        said = capsys.readouterr().out
        assert "✓ Right" in said and "Your progress is not kept" in said

    def test_lies_in_the_user_s_folder_by_default(self, monkeypatch):
        monkeypatch.delenv("OVAMNB_PROGRESS")
        assert progress.where().name == "progress.json" and "ovamnb" in progress.where().parts
