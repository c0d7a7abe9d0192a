"""The papers' figures: that they agree with one another, and stand beside ours where they belong."""

import math

import numpy as np
import pytest

from ovamnb.data import DATA, EARLIER
from ovamnb.data.pascal import DIFFSEGMENTER_WORDS, VOC_CLASSES
from ovamnb.evaluation.methods import METHODS
from ovamnb.evaluation.methods import TOKEN as ROWS_TOKEN
from ovamnb.evaluation.quoted import (
    ASKED,
    BLOCKS,
    CUTS,
    FIGURES,
    PICTURES,
    TOKEN,
    beside,
    classes_beside,
    table,
)

PRINTED = [(data, row, asked) for data, rows in FIGURES.items() for row in rows for asked in ASKED]
BY_CLASS = [each for each in PRINTED if FIGURES[each[0]][each[1]].classes]


class TestFigures:
    @pytest.mark.parametrize(("data", "row", "asked"), BY_CLASS)
    def test_a_mean_is_that_of_its_classes(self, data, row, asked):
        """A slip in copying, of three points in one of twenty figures, shows."""
        values = FIGURES[data][row].classes[asked]
        assert len(values) == len(VOC_CLASSES)
        # The mean is rounded to .1, and what is lost in rounding twenty figures nearly cancels.
        assert np.mean(values) == pytest.approx(getattr(FIGURES[data][row], asked), abs=0.07)

    def test_ovam_and_daam_are_there_by_class(self):
        rows = {(data, row) for data, row, _ in BY_CLASS}
        assert rows == {(data, row) for data in PICTURES for row in ("ovam-map", "ovam+weights+crf")}

    def test_they_are_of_data_sets_and_methods_that_exist(self):
        assert {*FIGURES} <= {*DATA} and {*CUTS} == {*PICTURES}
        to_come = {"datasetdm", "grounded-diffusion"}
        assert {row for rows in FIGURES.values() for row in rows} - to_come <= {*METHODS}
        assert {row for rows in CUTS.values() for row in rows} <= {*METHODS}

    def test_all_blocks_together_are_the_method(self):
        whole = FIGURES["ovam-voc-sim"]["ovam+weights+crf"]
        assert BLOCKS["16+32+64"] == (whole.words, whole.tokens) and len(BLOCKS) == 7

    def test_what_was_tuned_for_words_is_lower_than_for_tokens(self):
        for rows in CUTS.values():
            for cuts in (cuts for cuts in rows.values() if "tokens" in cuts):
                words, tokens = cuts["words"], cuts["tokens"]
                assert 0 < words.threshold < tokens.threshold < 1
                assert (words.floor is None) == (tokens.floor is None)
                assert words.floor is None or 0 < words.floor < tokens.floor < 1

    def test_every_figure_says_where_it_stands(self):
        for rows in FIGURES.values():
            assert all(found.source.startswith("arXiv 2") for found in rows.values())

    def test_words_are_of_classes(self):
        assert {*DIFFSEGMENTER_WORDS} < {*VOC_CLASSES} and not {*DIFFSEGMENTER_WORDS.values()} & {
            *VOC_CLASSES
        }


class TestBeside:
    def test_as_shares(self):
        assert beside("ovam-voc-sim", "ovam+weights+crf", "words") == pytest.approx(0.704)
        assert beside("ovam-voc-sim", "ovam+weights+crf:token", "tokens") == pytest.approx(0.825)
        assert beside("ovam-coco-cap", "grounded-diffusion", "tokens") == pytest.approx(0.732)
        assert beside("voc", "diffsegmenter-paper") == pytest.approx(0.601)
        assert classes_beside("ovam-voc-sim", "ovam-map")["dining table"] == pytest.approx(0.246)
        assert classes_beside("ovam-coco-cap", "ovam+weights+crf", "tokens")["tv"] == pytest.approx(0.616)

    @pytest.mark.parametrize(("old", "new"), EARLIER.items())
    def test_by_the_sets_earlier_name(self, old, new):
        assert beside(old, "ovam-map") == beside(new, "ovam-map") and classes_beside(old, "ovam-map")

    def test_rows_are_named_as_in_methods(self):
        assert TOKEN == ROWS_TOKEN

    def test_the_background_counts_where_diffsegmenter_counts_it(self):
        counted = {data for data, rows in FIGURES.items() for found in rows.values() if found.background}
        assert counted == {"voc", "context", "coco-object"}
        assert "the background counts as a class" in table("voc", {"diffsegmenter-paper": 0.5})

    def test_where_nothing_is_reported(self):
        assert beside("voc", "diffsegmenter-paper", "tokens") is None
        assert beside("emoji-sim", "daam") is None and beside("voc", "no method") is None
        assert beside("ovam-voc-sim", "ovam+weights+crf blocks=16") is None, "another setting"
        assert classes_beside("ovam-voc-sim", "datasetdm") == classes_beside("voc", "daam") == {}

    def test_by_words_or_tokens(self):
        for function in (beside, classes_beside):
            with pytest.raises(ValueError, match="by words or tokens, not by 'token'"):
                function("ovam-voc-sim", "daam", "token")


class TestTable:
    def test_a_line_for_each_row(self):
        text = table(
            "ovam-voc-sim", {"ovam-map": 0.7, "ovam-map:token": 0.797, "ovam": 0.5, "datasetdm": math.nan}
        )
        lines = [line.split() for line in text.split("\n\n")[0].splitlines()]
        assert lines == [
            ["method", "asked", "by", "here", "there", "difference"],
            ["ovam-map", "words", "0.700", "0.662", "+0.038"],
            ["ovam-map", "tokens", "0.797", "0.797", "+0.000"],
            ["ovam", "words", "0.500"],
            ["datasetdm", "words", "0.803"],
        ]
        assert text.count("evaluation_daam.ipynb; what the paper calls DAAM is OVAM's own map") == 1
        assert "pictures" not in text.split("\n\n")[0] and "not on these." in text

    def test_a_line_for_each_class(self):
        ours = {name: 0.5 for name in VOC_CLASSES if name not in ("dining table", "tv")} | {"tv": math.nan}
        row = "ovam+weights+crf:token"
        text = table("ovam-sim", {row: 0.5}, {row: ours, "ovam": ours}, pictures=12)
        _, by_class, notes = text.split("\n\n")
        lines = by_class.splitlines()
        assert lines[1].split(", ") == ["class" + " " * 9 + "ovam+weights+crf", "tokens"]
        assert [line.split("  ")[0] for line in lines[2:]] == [*VOC_CLASSES]
        assert lines[2].split() == ["aeroplane", "0.500", "/", "0.736"]
        assert lines[12].split() == ["dining", "table", "–", "/", "0.277"]
        assert f"{row}: the mean of 18 classes here, without dining table, tv." in notes
        assert "12 pictures here, 490 there" in notes and "ovam:" not in notes

    def test_as_many_pictures_need_no_word(self):
        assert "pictures here" not in table("ovam-coco-cap", {"daam": 0.5}, pictures=707)
        assert "pictures here" not in table("voc", {"diffsegmenter-paper": 0.5}, pictures=3)

    def test_where_no_paper_reports_anything(self):
        assert table("emoji-sim", {"ovam": 0.5}, {"ovam": {"cat": 0.5}}).splitlines()[1:] == [
            "ovam    words     0.500"
        ]
