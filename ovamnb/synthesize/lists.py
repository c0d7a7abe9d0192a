"""The lists of a set: what the filters kept, and what they dropped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .filters import Limits, reasons
from .folder import VOC, image_path, labels_path, read_record, write_lines
from .prompts import Plan


def finish(folder: Path, plans: Sequence[Plan], limits: Limits | None = None) -> dict[str, list[str]]:
    """Filter the pictures and write the lists; picture → why it was dropped, as `filters.reasons`.

    Raises RuntimeError where a picture is missing, because a process died.
    """
    records = [read_record(folder, plan.name) for plan in plans]
    if missing := [plan.name for plan, record in zip(plans, records, strict=True) if record is None]:
        raise RuntimeError(
            f"{len(missing)} of {len(plans)} pictures are missing ('{missing[0]}' is the first), so a "
            "process died: run the same command again, and it draws these only."
        )
    found = reasons(records, limits)
    settings = json.loads((folder / "settings.json").read_text("utf-8"))
    kept = [record for record in records if not found[record["name"]]]
    dropped = [record for record in records if found[record["name"]]]
    write_lines(folder / "classes.txt", settings["classes"])
    write_lines(folder / VOC / "ImageSets" / "Segmentation" / "train.txt", [r["name"] for r in kept])
    write_lines(folder / "metadata.jsonl", [line_of(record) for record in kept])
    write_lines(folder / "dropped.jsonl", [line_of(r, dropped_by=found[r["name"]]) for r in dropped])
    return found


def line_of(record: dict, **more) -> str:
    """A picture's line of metadata. `datasets` reads file_name as the image, labels_file_name as a second."""
    name = record["name"]
    files = {"file_name": image_path(name), "labels_file_name": labels_path(name)}
    files = {key: path.as_posix() for key, path in files.items()}
    return json.dumps(files | record | more, ensure_ascii=False)
