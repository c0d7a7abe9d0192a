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
    assert {row["mix"] for row in runs} == {"real", "synthetic", "both", "then"}
    for mix in ("real", "both", "then"):
        assert {(row["k"], row["seed"]) for row in runs if row["mix"] == mix} == {
            (k, seed) for k in (25, 100, 400) for seed in (0, 1, 2)
        }
    alone = read_table(RESULTS / "why.csv")
    assert {row["source"] for row in alone} == {"ours", "paper", "judge", "attention", "exact"}
    assert torch.tensor([row["miou"] for row in runs + alone]).isfinite().all()
