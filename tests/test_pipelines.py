"""Loading: what is here is used, what is not is told at once and in one sentence."""

import json
import shutil
import subprocess
import sys
import time
from unittest.mock import MagicMock

import pytest
import torch
from conftest import generate, sd_pipeline, xl_pipeline
from matplotlib import pyplot

import ovamnb as ov
from ovamnb import notebook, pipelines
from ovamnb.plot.figures import new_figure

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    with pipelines.quiet():
        sd_pipeline().save_pretrained(tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache; returns a function that puts a folder into it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def put(folder, repo, revision=REVISION):
        home = tmp_path / "cache" / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder, home / "snapshots" / revision)
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text(revision)

    return put


def test_a_folder_is_loaded_without_a_word(folder, capfd, caplog, recwarn):
    capfd.readouterr()
    pipe = ov.load_pipeline(folder, device="cpu")
    assert capfd.readouterr() == ("", "") and not caplog.records and not recwarn
    assert pipe.safety_checker is None and pipe.unet.dtype == torch.float32
    assert torch.equal(generate(pipe), generate(sd_pipeline()))
    assert "it/s" in capfd.readouterr().err  # the denoising bar stays


def test_a_pipeline_without_safety_checker_argument(tmp_path):
    with pipelines.quiet():
        xl_pipeline().save_pretrained(tmp_path)
    assert type(ov.load_pipeline(str(tmp_path), device="cpu")).__name__ == "StableDiffusionXLPipeline"


def test_dtype(folder):
    assert ov.load_pipeline(folder, device="cpu", dtype=torch.bfloat16).unet.dtype == torch.bfloat16


def test_a_dtype_by_its_name(folder):
    for name in ("bfloat16", "torch.bfloat16"):
        assert ov.load_pipeline(folder, device="cpu", dtype=name).unet.dtype == torch.bfloat16


@pytest.mark.parametrize("wrong", ["x", "half precision", "int64", "Tensor", 3, "", torch.int32, float])
def test_what_is_no_dtype_is_refused(wrong):
    with pytest.raises(ValueError, match=r"dtype is a floating-point dtype, torch.float32.*'float16'"):
        ov.load_pipeline(dtype=wrong)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model_index.json", "{"),
        ("model_index.json", "[]"),
        ("model_index.json", "{}"),
        ("unet/config.json", "{"),
        ("unet/config.json", None),
        ("unet/diffusion_pytorch_model.safetensors", "cat"),
        ("unet/diffusion_pytorch_model.safetensors", None),
        ("tokenizer/tokenizer.json", "{"),
        ("text_encoder/config.json", "{}"),
        ("scheduler/scheduler_config.json", None),
    ],
)
def test_a_damaged_folder_is_told_in_a_sentence(folder, file, content):
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(
        (ValueError, OSError), match=r"The folder '.*small' cannot be loaded, so save"
    ) as error:
        ov.load_pipeline(folder, device="cpu")
    assert error.value.__suppress_context__ and "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [None, 3, ["sd15"]])
def test_names_that_are_none(wrong):
    with pytest.raises(TypeError, match="named by a string or a Path"):
        ov.load_pipeline(wrong)
    with pytest.raises(ValueError, match="Unknown pipeline"):
        ov.load_pipeline("~nobody here/" + "x" * 5000)


def test_the_libraries_speak_again_afterwards(folder):
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.enable_progress_bar()
    before = [library.get_verbosity() for library in (diffusers_logging, transformers_logging)]
    ov.load_pipeline(folder, device="cpu")
    assert before == [library.get_verbosity() for library in (diffusers_logging, transformers_logging)]
    assert diffusers_logging.is_progress_bar_enabled() and transformers_logging.is_progress_bar_enabled()


def test_unknown_names_are_answered_with_the_known():
    known = "'bundled', 'sd15', 'sd21', 'sdxl', a folder with a model_index.json, or a hub id"
    with pytest.raises(ValueError, match=f"Unknown pipeline 'sd1.5'. Did you mean 'sd15'.*{known}"):
        ov.load_pipeline("sd1.5")
    with pytest.raises(ValueError, match=f"Unknown pipeline 'nothing like it'. Known are {known}"):
        ov.load_pipeline("nothing like it")


def test_a_folder_without_pipeline(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model_index.json"):
        ov.load_pipeline(tmp_path)


def test_devices_that_are_not_here(folder):
    with pytest.raises(ValueError, match="Asked for device 'cuda:99', but this machine has"):
        ov.load_pipeline(folder, device="cuda:99")
    with pytest.raises(ValueError, match="Unknown device 'gpu': say 'cpu', 'cuda'"):
        ov.load_pipeline(folder, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"no CUDA GPU .*say device='cpu'"):
            ov.load_pipeline(folder, device="cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(ValueError, match="no Apple GPU"):
            ov.load_pipeline(folder, device="mps")


def test_the_bundled_model_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(pipelines, "BUNDLED", tmp_path)
    with pytest.raises(FileNotFoundError, match="not part of this installation: reinstall ovamnb"):
        ov.load_pipeline()


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl", "someone/something", "someone/something@v2"])
def test_without_network_and_cache_the_way_to_the_weights_is_told(cache, name):
    start = time.perf_counter()
    with pytest.raises(
        FileNotFoundError, match=r"cannot be reached .*run `hf download .*--local-dir models/"
    ) as error:
        ov.load_pipeline(name, device="cpu")
    assert time.perf_counter() - start < 2 * pipelines.HUB_SECONDS
    message = str(error.value)
    model = pipelines.KNOWN.get(name) or pipelines.HubModel(*name.split("@"))
    assert model.repo in message and (f"--revision {model.revision}" in message) == bool(model.revision)
    target = f"models/{model.repo.split('/')[1]}"
    assert f"--local-dir {target}`" in message and f"load_pipeline('{target}')" in message


def test_what_the_hub_does_not_have(cache, monkeypatch):
    from huggingface_hub import HfApi, errors

    answers = {
        errors.RepositoryNotFoundError: (ValueError, "neither a folder here nor a pipeline on the hub"),
        errors.RevisionNotFoundError: (ValueError, "neither a folder here nor a pipeline on the hub"),
        errors.GatedRepoError: (FileNotFoundError, "'someone/something' is gated: accept its terms"),
    }
    for answer, (error, message) in answers.items():

        def model_info(*_, answer=answer, **options):
            assert options["timeout"] == pipelines.HUB_SECONDS
            raise answer("no", response=MagicMock())

        monkeypatch.setattr(HfApi, "model_info", model_info)
        with pytest.raises(error, match=message):
            ov.load_pipeline("someone/something", device="cpu")


def test_a_cached_hub_model_needs_no_network(cache, folder):
    cache(folder, "someone/something")
    for name in ("someone/something", f"someone/something@{REVISION}"):
        assert torch.equal(generate(ov.load_pipeline(name, device="cpu")), generate(sd_pipeline()))
    with pytest.raises(FileNotFoundError, match="cannot be reached"):
        ov.load_pipeline("someone/something@v2", device="cpu")


def test_a_known_name_is_its_pinned_commit(cache, folder):
    model = pipelines.KNOWN["sd15"]
    cache(folder, model.repo, model.revision)
    assert ov.load_pipeline("sd15", device="cpu").unet is not None
    for known in pipelines.KNOWN.values():
        assert len(known.revision) == 40 and int(known.revision, 16)


def test_a_cache_that_is_not_whole_counts_as_none(cache, folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    cache(folder, "someone/something")
    with pytest.raises(FileNotFoundError, match="cannot be reached"):
        ov.load_pipeline("someone/something", device="cpu")


def test_pickled_weights_and_remote_code_are_refused(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        ov.load_pipeline(folder, device="cpu")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": ["pipeline", "Mine"]}))
    (folder / "pipeline.py").write_text("raise SystemExit('ran remote code')")
    with pytest.raises(ValueError, match="trust_remote_code"):
        ov.load_pipeline(folder, device="cpu")


def test_import_is_quick():
    code = "import sys, ovamnb; sys.exit(bool({'torch', 'diffusers', 'matplotlib'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names():
    for name in ov.__all__:
        value = getattr(ov, name)
        assert callable(value) and value.__doc__  # a function or class, not the module it lives in
        assert name in dir(ov)
    with pytest.raises(AttributeError, match="recrod"):
        ov.recrod  # noqa: B018


def test_setup_notebook_says_one_stable_line(monkeypatch, capsys):
    monkeypatch.setattr(pipelines, "silence", lambda: None)
    monkeypatch.setattr(notebook, "SIGNED", "")
    monkeypatch.delenv("OVAMNB_MODEL", raising=False)
    settings = ov.setup_notebook()
    line = f"ovamnb ready · model: bundled · device: {settings.device}"
    assert capsys.readouterr() == (line + "\n", "") and settings.model == "bundled"
    monkeypatch.setenv("OVAMNB_MODEL", "sd15")
    monkeypatch.setenv("CPU_LIMIT", "1.0")
    assert ov.setup_notebook().model == "sd15" and ov.setup_notebook("sdxl").model == "sdxl"
    for figure in (pyplot.figure(), new_figure(2, 2)):
        assert [text.get_text() for text in figure.texts] == ["model: sdxl"]
        settings.sign(figure, "stored results")
        assert [text.get_text() for text in figure.texts] == ["stored results"]
    pyplot.close("all")
    bundled = ov.setup_notebook("bundled")
    bundled.claim(torch.tensor(True), "two is even")
    with pytest.raises(AssertionError, match="the sun is cold"):
        bundled.claim(torch.tensor(False), "the sun is cold")
    assert bundled.only_bundled("anything") and bundled.finest == bundled.best == 32
    with pytest.raises(TypeError, match="model is the name of a model, or a folder"):
        ov.setup_notebook(3)
    assert torch.get_num_threads() == 1
