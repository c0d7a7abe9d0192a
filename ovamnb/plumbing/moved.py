"""Where the commands of the first edition went; for one edition, their old names give the new ones."""

from __future__ import annotations

from importlib.abc import MetaPathFinder

MOVED = {
    "ovamnb.evaluate": "ovamnb.evaluation",
    "ovamnb.ablate": "ovamnb.evaluation.ablate",
    "ovamnb.tour": "workshop.tour",
    "ovamnb.bench": "workshop.bench",
    "ovamnb.emoji.train": "workshop.train.model",
    "ovamnb.emoji.train_clip": "workshop.train.clip_training",
    "ovamnb.emoji.tune": "workshop.make.segment_recipe",
    "ovamnb.emoji.token_bank": "workshop.make.token_bank",
    "ovamnb.emoji.label_sets": "workshop.make.label_sets",
    "ovamnb.emoji.pack": "workshop.make.sprite_sheet",
    "ovamnb.emoji.evaluate": "workshop.measure.bundled",
    "ovamnb.emoji.recognise": "workshop.measure.generation",
    "ovamnb.emoji.measure_tokens": "workshop.measure.token_worth",
    "ovamnb.emoji.measure_synthesis": "workshop.measure.filter_worth",
}


class Signpost(MetaPathFinder):
    """The first finder of modules: finds none, but says where some went; before Python takes a folder that an
    older checkout left behind for the module."""

    @staticmethod
    def find_spec(name: str, path=None, target=None) -> None:
        """None; ModuleNotFoundError that names the new place of a command that moved."""
        if name in MOVED:
            where = " in a checkout of the repository" if MOVED[name].startswith("workshop") else ""
            raise ModuleNotFoundError(f"it has moved: `python -m {MOVED[name]}`{where}", name=name)
