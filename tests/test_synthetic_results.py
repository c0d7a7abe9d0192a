"""What the filters of a synthetic set are worth, and the tables that stand in the assets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_fixtures import bundled_pipe

import ovamnb as ov
from ovamnb.data.on_disk import IGNORED
from ovamnb.emoji.sprites import CONCEPTS
from ovamnb.evaluation.metrics import mean_iou
from ovamnb.evaluation.report import read_table
from ovamnb.synthesize.filters import FILTERS, reasons, shares
from ovamnb.synthesize.folder import LabelledFolder, write_labels
from workshop.measure.filter_worth import JUDGES, counterpart, judged, passes, rows

RESULTS = Path(ov.__file__).parent / "assets/results/synthetic"
CAT, DOG = CONCEPTS.index("cat") + 1, CONCEPTS.index("dog") + 1


def record(name: str, area: float = 0.5, classes: tuple[str, ...] = ("cat",)) -> dict:
    return {"name": name, "classes": list(classes), "areas": [area], "scores": [0.5]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures of 4×6 "cats": one is, one is half a dog to the judge, one is a dog."""
    ours = np.zeros((4, 6), np.uint8)
    ours[:, :3] = CAT
    ours[0] = IGNORED
    for name, columns in (
        ("right", {0: CAT, 1: CAT, 2: CAT}),
        ("half", {0: CAT, 1: DOG, 2: DOG}),
        ("wrong", {0: DOG}),
    ):
        seen = np.zeros((4, 6), np.uint8)
        for column, label in columns.items():
            seen[:, column] = label
        write_labels(tmp_path, name, ours)
        write_labels(tmp_path, name, seen, JUDGES)
    return tmp_path


def test_a_right_mask_of_the_wrong_thing_is_told_from_a_wrong_mask(folder: Path):
    right, half, wrong = (
        judged(folder, record(name), "SegmentationClass") for name in ("right", "half", "wrong")
    )
    assert (right.shown, half.shown, wrong.shown) == (True, True, False)
    assert mean_iou(right.table) == mean_iou(right.mask_table) == 1
    assert (right.iou, wrong.iou) == (1, 0) and half.iou == pytest.approx(3 / 9)
    # Three of nine pixels agree, and the dog is missed; where the judge sees it no mask is to blame.
    assert mean_iou(half.table) == pytest.approx((3 / 9 + 0) / 2)
    assert mean_iou(half.mask_table) == 1
    assert mean_iou(wrong.table) == 0 and wrong.mask_table.sum() == 0
    assert right.labelled == 18 / 24


def test_a_row_for_each_filter(folder: Path):
    records = [record("right"), record("half"), record("wrong", area=0)]
    found = {row["filter"]: row for row in rows(folder, records, "SegmentationClass")}
    assert [*found] == ["none", *FILTERS, "all"]
    assert found["none"]["pictures"] == 3 and found["empty"]["pictures"] == found["all"]["pictures"] == 2
    assert found["none"]["shown"] == pytest.approx(2 / 3, abs=1e-4) and found["all"]["shown"] == 1
    assert found["all"]["miou"] > found["none"]["miou"]


def test_who_passes_which_filter():
    assert passes("none", ["area", "score"]) and not passes("area", ["area", "score"])
    assert passes("empty", ["area"]) and not passes("all", ["area"]) and passes("all", [])


def test_the_counterpart_has_exact_masks_and_those_of_attention(tmp_path: Path):
    counterpart(tmp_path, [record("cat-00003"), record("car-00004", classes=("car", "cat"))], bundled_pipe())
    exact, seen = LabelledFolder(tmp_path), LabelledFolder(tmp_path, "SegmentationClass-attention")
    assert exact.names == seen.names == ("cat-00003", "car-00004") and exact.classes == CONCEPTS
    assert exact[0].present() == [CAT] and len(exact[1].present()) == 2
    assert IGNORED not in exact[0].labels and set(np.unique(seen[0].labels)) <= {0, CAT, IGNORED}
    both = (exact[0].labels == CAT) & (seen[0].labels == CAT)
    assert both.sum() > 0.4 * (exact[0].labels == CAT).sum()
    assert isinstance(exact[0].image, Image.Image)


def test_the_tables_in_the_assets_belong_together():
    known = [
        row
        | {"classes": row["classes"].split(";")}
        | {what: [float(value) for value in str(row[what]).split(";")] for what in ("areas", "scores")}
        for row in read_table(RESULTS / "pictures.csv")
    ]
    kept = shares(reasons(known))
    assert all(0 <= picture["iou"] <= 1 for picture in known)
    for row in read_table(RESULTS / "filters.csv"):
        assert row["kept"] == pytest.approx(1 if row["filter"] == "none" else kept[row["filter"]], abs=1e-4)
        assert row["pictures"] == round(row["kept"] * len(known))
    runs = read_table(RESULTS / "scores.csv")
    used = {row["pictures"] for row in runs if row["source"] == "ours"}
    assert used == {round(kept["all"] * len(known))}
    [pairs] = {row["pictures"] for row in runs if row["source"] == "pairs"}
    assert {pairs} == {
        row["pictures"]
        for row in read_table(RESULTS / "pairs.csv")
        if row["masks"] == "SegmentationClass" and row["filter"] == "all"
    }
    assert {row["mix"] for row in runs} == {"real", "synthetic", "both", "then"}
    for source, mixes in {"real": ("real",), "ours": ("both", "then"), "pairs": ("both", "then")}.items():
        for mix in mixes:
            assert {(r["k"], r["seed"]) for r in runs if (r["source"], r["mix"]) == (source, mix)} == {
                (k, seed) for k in (25, 100, 400) for seed in (0, 1, 2)
            }
    alone = read_table(RESULTS / "why.csv")
    kinds = {"judge", "attention", "exact"}
    assert {row["source"] for row in alone} == {"ours", "paper", "pairs", *kinds} | {
        f"pairs-{k}" for k in kinds
    }
    assert torch.tensor([row["miou"] for row in runs + alone]).isfinite().all()


class TestWhatTheReadmeAndChapter07SayOfThem:
    """Each sentence of their conclusions, by the rows of the stored tables."""

    def passed(self, table: str, column: str) -> dict[str, float]:
        own = [row for row in read_table(RESULTS / table) if row["masks"] == "SegmentationClass"]
        return {row["filter"]: row[column] for row in own}

    def learned(
        self, source: str, mix: str = "synthetic", k: int = 0, table: str = "scores.csv"
    ) -> np.ndarray:
        """The mIoU of each seed."""
        own = [r for r in read_table(RESULTS / table) if (r["source"], r["mix"], r["k"]) == (source, mix, k)]
        return np.array([row["miou"] for row in own])

    def alone(self, source: str, table: str = "why.csv") -> float:
        return self.learned(source, table=table).mean()

    def test_filters(self):
        assert self.passed("filters.csv", "shown")["none"] == 1
        assert self.passed("pairs.csv", "shown")["none"] == pytest.approx(0.98, abs=0.005)
        before = self.passed("earlier/filters.csv", "miou")
        assert self.passed("earlier/filters.csv", "shown")["none"] == pytest.approx(0.8, abs=0.005)
        assert before["none"] == pytest.approx(0.47, abs=0.005)
        assert before["all"] < self.passed("earlier/filters.csv", "high")["none"]
        one, pairs = self.passed("filters.csv", "miou"), self.passed("pairs.csv", "miou")
        assert one["all"] - one["none"] < 0.02 and pairs["all"] - pairs["none"] > 0.06
        assert self.passed("pairs.csv", "low")["all"] > self.passed("pairs.csv", "high")["none"]

    def test_what_they_are_worth(self):
        real = {k: self.learned("real", "real", k) for k in (25, 100, 400)}
        for source in ("ours", "pairs"):
            assert self.learned(source, "both", 25).mean() > 2 * real[25].mean()
            assert self.learned(source).min() > real[25].max()
            assert (self.learned(source, "both", 100) > real[100]).all()
            for mix in ("both", "then"):
                assert self.learned(source, mix, 400).mean() < real[400].mean()
            assert self.learned(source, "then", 25).mean() < self.learned(source, "both", 25).mean()
            assert (
                abs(self.learned(source, "then", 400).mean() - self.learned(source, "both", 400).mean())
                < 0.01
            )
        assert abs(self.learned("pairs").mean() - real[100].mean()) < 0.02
        table = "earlier/scores.csv"
        before = (
            self.learned("ours", "both", 25, table).mean() - self.learned("real", "real", 25, table).mean()
        )
        gains = [self.learned(source, "both", 25).mean() - real[25].mean() for source in ("ours", "pairs")]
        assert [before, *gains] == pytest.approx([0.076, 0.091, 0.143], abs=0.0006)

    def test_why(self):
        for before in ("", "pairs-"):
            assert abs(self.alone(f"{before}exact") - self.alone(f"{before}attention")) < 0.015  # masks
        assert self.alone("judge") < self.alone("ours") and self.alone("paper") < self.alone("ours")
        assert 0.01 < self.alone("pairs-judge") - self.alone("pairs") < 0.04
        words = self.alone("oracle", "earlier/why.csv") / self.alone("ours", "earlier/why.csv")
        assert words == pytest.approx(1.5, abs=0.05)
        drawn, rendered = ("ours", "judge"), ("attention", "exact")
        assert min(map(self.alone, rendered)) > max(map(self.alone, drawn)) + 0.03  # pictures
        paired = {
            name: self.alone("pairs" if name == "ours" else f"pairs-{name}") for name in drawn + rendered
        }
        assert max(paired[name] for name in rendered) < max(paired[name] for name in drawn)
        assert min(paired[name] - self.alone(name) for name in paired) > 0.04  # objects: in all four
