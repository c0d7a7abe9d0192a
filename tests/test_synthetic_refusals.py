"""What cannot become a synthetic set is refused before anything is drawn, much of it before the model."""

import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from shared_fixtures import bundled_pipe
from test_synthesize import CLASSES, OPTIONS, drawn, plain, synthesize, times_of

import ovamnb as ov
from ovamnb.synthesize import __main__ as command
from ovamnb.synthesize.folder import VOC
from ovamnb.synthesize.prompts import Plan, from_table, from_templates


@pytest.fixture
def pipe():
    return bundled_pipe()


class TestBeforeTheModel:
    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["--masks", "dam"], "no method 'dam': choose of daam"),
            (["--also", "ovam", "dam:token"], "no method 'dam': choose of daam"),
            (["--thresholds", "0.6", "0.3"], "Thresholds are 0 ≤ low ≤ high ≤ 1, not 0.6 and 0.3"),
            (["--classes", "cat", "unicorn"], "no token for unicorn: optimise one with `ov.optimize_token`"),
            (["--classes", "cat", "cat"], "Named twice among the classes: cat"),
            (["--templates", "a cat"], "has no slot for the class"),
            (["--prompts", "nowhere.csv"], "'nowhere.csv' is not there: give a CSV file with the columns"),
            (["--captions", "nowhere.txt"], "'nowhere.txt' is not there: give a text file"),
            (["--areas", "95", "5"], "Percentiles lie in 0 to 100"),
            (["--n", "0"], "argument --n: give a whole number from 1 on, not '0'"),
            (["--seed", "-1"], "seed is a whole number from 0 on"),
            (["--model", "sd15"], "give a file of this one's by --tokens"),
            (["--masks", "ovam+completion+crf"], 'pip install "ovamnb[crf]"'),
        ],
    )
    def test_it_is_refused(self, arguments, why, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(command, "start", None)
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
        if {"--prompts", "--captions"} & {*arguments}:
            options = OPTIONS[: OPTIONS.index("--templates")] + OPTIONS[OPTIONS.index("--batch") :]
        else:
            options = OPTIONS
        with pytest.raises(SystemExit) as ended:
            command.main([*options, *arguments, "--out", str(tmp_path / "set")])
        assert ended.value.code == 2 and why in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "set").exists()


class TestBeforeAnythingIsDrawn:
    @pytest.mark.parametrize(
        ("options", "prompt", "why"),
        [
            ({"classes": ("cat", "zyzzyva")}, "a cat", "zyzzyva"),
            ({}, "a cat beside a zyzzyva", "zyzzyva"),
            ({}, " ".join(["a cat and"] * 40), "would fall off, so shorten it"),
            ({"row": "ovam:token"}, "a cat", "no token for cat, train: .* by the row 'ovam'"),
            ({"also": ["daam"], "bands": {"daam": (0.7, 0.2)}}, "a cat", "low ≤ high ≤ 1, not 0.7 and 0.2"),
            ({"size": (60, 64)}, "a cat", "multiples of 8 pixels, not 60×64"),
        ],
    )
    def test_it_is_refused(self, options, prompt, why, pipe, tmp_path):
        plans = [Plan("one", prompt, 1, ("cat",))]
        with pytest.raises(ValueError, match=why):
            plain(pipe, **options).run(plans, tmp_path / "set")
        assert not (tmp_path / "set").exists()

    def test_a_crf_that_is_not_installed(self, pipe, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
        with pytest.raises(ImportError, match=r'pip install "ovamnb\[crf\]"'):
            plain(pipe, also=["ovam+completion+crf"]).run([], tmp_path / "set")

    def test_no_disk(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**16))
        with pytest.raises(SystemExit) as ended:
            synthesize(tmp_path / "set")
        said = capsys.readouterr().err
        assert ended.value.code == 1 and "8 pictures need up to" in said and "make room" in said
        assert not (tmp_path / "set" / VOC).exists()

    def test_a_folder_of_something_else(self, pipe, tmp_path):
        plans = list(from_templates(CLASSES, 1))
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="file' is a file: give a folder"):
            plain(pipe).run(plans, tmp_path / "file")
        with pytest.raises(ValueError, match="holds files that are no synthetic set: give an empty or a new"):
            plain(pipe).run(plans, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        (tmp_path / "file").rename(tmp_path / "settings.json.77.partial")  # killed as it began
        plain(pipe).run(plans, tmp_path)
        assert len(drawn(tmp_path)) == 2 and not list(tmp_path.glob("*.partial"))

    def test_a_folder_of_another_run(self, pipe, tmp_path):
        table = tmp_path / "prompts.csv"
        table.write_text("prompt,classes\na cat,cat\n")
        folder, plans = tmp_path / "set", list(from_table(CLASSES, 1, table, seed=7))
        plain(pipe).run(plans, folder)
        before = times_of(folder, drawn(folder))
        for options, what in (
            ({"classes": ("train", "cat")}, "classes: .* there, .* now"),
            ({"steps": 2}, "steps: 1 there, 2 now"),
            ({"also": ["daam"]}, r"also: \[\] there, \[\"daam\"\] now"),
            ({"bands": {"ovam": (0.1, 0.9)}}, "bands"),
            ({"score": type("Other", (), {"name": "other"})()}, 'scores: "" there, "other" now'),
        ):
            with pytest.raises(ValueError, match=f"other settings .*{what}.* give another folder"):
                plain(pipe, **options).run(plans, folder)
        table.write_text('prompt,classes\na cat,"cat;train"\n')
        for other, seed in ((plans[0].prompt, 8), ("a train", 7)):
            changed = [Plan(plans[0].name, other, seed, ("cat",))]
            with pytest.raises(ValueError, match="holds another run's pictures: 'line-00001-00000'"):
                plain(pipe).run(changed, folder)
        with pytest.raises(ValueError, match=r"from 'a cat' and seed 7 for cat, not .* 7 for cat, train\."):
            plain(pipe).run(list(from_table(CLASSES, 1, table, seed=7)), folder)
        assert times_of(folder, drawn(folder)) == before and len(drawn(folder)) == 1

    def test_a_set_of_other_tokens(self, pipe, tmp_path):
        tokens, plans = ov.load_tokens(), list(from_templates(("cat",), 1))
        other = {"cat": replace(tokens["cat"], class_=tokens["cat"].class_ + 0.01)}
        plain(pipe, ("cat",), row="ovam:token", tokens=tokens).run(plans, tmp_path)
        plain(pipe, ("cat",), row="ovam:token", tokens=tokens).run(plans, tmp_path)
        with pytest.raises(ValueError, match=r'other settings \(tokens: "\w+" there'):
            plain(pipe, ("cat",), row="ovam:token", tokens=other).run(plans, tmp_path)
