"""The benchmark runs; what it prints is not tested, since it depends on the machine."""

import pytest
import torch

from ovamnb.evaluation.report import read_table
from ovamnb.select import Block
from workshop.bench import __main__ as bench
from workshop.bench import asking, official, recording, shapes, timing
from workshop.bench import peaks as memory
from workshop.bench import token_cost as tokens

TINY = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}


@pytest.fixture
def tiny(monkeypatch):
    """Everything on the CPU, and a small UNet as a further shape."""
    monkeypatch.setitem(shapes.UNETS, "tiny", TINY)
    monkeypatch.setattr(asking, "COUNTS", (1, 3))


@pytest.mark.slow
def test_every_row_is_printed_and_those_of_asking_saved(tiny, capsys, tmp_path):
    bench.main("--shapes bundled --parts recording segmentation --steps 1 --repeat 1".split())
    asked = "--shapes tiny --parts asking --steps 3 --repeat 1 --no-peaks --save".split()
    bench.main([*asked, str(tmp_path / "bench.csv")])
    saved = read_table(tmp_path / "bench.csv")
    assert [(row["shape"], row["tokens"], row["steps"]) for row in saved] == [("tiny", 1, 3), ("tiny", 3, 3)]
    assert all(row["seconds"] == row["seconds"] and row["faster"] != row["faster"] for row in saved)
    said = capsys.readouterr().out
    for row in ("record queries", "self-attention at 32", "ask one text", "in one batch", "in one text"):
        assert row in said
    assert "maps, tiny on" in said and "random queries of its shape" in said
    assert said.count("tokens   ours") == 2


def test_what_cannot_be_run_is_said(tiny, capsys):
    bench.main("--shapes sdxl --parts recording".split())
    assert "recording, sdxl: not run, since" in capsys.readouterr().out


def test_foreign_code_that_fails_costs_one_line(monkeypatch, tmp_path, pipe, capsys):
    monkeypatch.setattr(recording, "WORD", "cat")
    monkeypatch.setattr(recording, "QUESTION", "a cat")
    monkeypatch.setattr(recording, "PROMPT", "a cat")
    recording.bench_recording(
        pipe, 1, official=tmp_path, daam=tmp_path, num_inference_steps=1, height=16, width=16
    )
    said = capsys.readouterr().out
    for name in ("OVAM", "DAAM"):
        assert f"not run: official {name}'s recording, since ModuleNotFoundError" in said


def test_a_shape_is_that_of_the_unet(tiny):
    layers = shapes.layers("tiny")
    grids = [block.grid for block, _ in layers.values()]
    assert grids.count((8, 8)) == 3 and grids.count((4, 4)) == 4
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
    assert layers[name] == (Block((8, 8), 2, 16**-0.5), 32)
    trace = shapes.recorded("tiny", 3, "cpu")
    assert trace.queries["conditional"][name].shape == (3, 1, 64, 32)
    maps = trace.maps(shapes.states_of(trace, 5))
    torch.testing.assert_close(maps.share.values.sum(dim=0), torch.ones(8, 8))


def test_a_peak_is_some_bytes(tiny):
    assert asking.measure("tiny", 2, 3, "ours")["peak"] >= 0


def test_a_copy_has_a_speed():
    assert timing.copy_bandwidth(torch.device("cpu"), 2**16) > 0


def test_a_stack_of_all_maps_is_counted_by_hand():
    found = memory.measure("bundled", "self-attention")
    layers, heads = 2, 2  # on the finest grid, where only the way up looks
    assert found["stack"] == memory.PASSES * layers * heads * (32 * 32) ** 2 * 4


@pytest.mark.slow
def test_a_token_is_learned_in_every_way(capsys):
    tokens.main(["--epochs", "2", "--steps", "4", "--unseen", "1"])
    said = capsys.readouterr().out
    for row in ("the paper's recipe", "own grid", "L-BFGS", "the default"):
        assert row in said


@pytest.mark.parametrize(
    ("main", "option", "package"),
    [(bench.main, "--official", "ovam"), (bench.main, "--daam", "daam"), (tokens.main, "--official", "ovam")],
)
def test_a_folder_that_is_no_checkout(main, option, package, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([option, str(tmp_path)])
    said = capsys.readouterr().err
    assert f"holds no folder '{package}'" in said and f"git clone https://{official.HOMES[package]}" in said


def test_an_unknown_shape(capsys):
    with pytest.raises(SystemExit):
        bench.main(["--shapes", "sd9"])
    assert "choose from bundled, sd15, sdxl" in capsys.readouterr().err
