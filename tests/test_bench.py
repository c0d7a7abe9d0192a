"""The benchmark runs; what it prints is not tested, since it depends on the machine."""

import pytest

from ovamnb import bench, bench_memory, bench_tokens


def test_every_row_is_printed(capsys):
    bench.main(["--steps", "2", "--repeat", "1", "--no-memory"])
    said = capsys.readouterr().out
    for row in ("record queries", "self-attention at 32", "ask one text", "in one batch", "in one text"):
        assert row in said


def test_a_stack_of_all_maps_is_counted_by_hand():
    found = bench_memory.measure("bundled", "self-attention")
    layers = 3  # on the finest grid: one on the way down, two on the way up
    assert found["stack"] == bench_memory.PASSES * layers * 4 * (32 * 32) ** 2 * 4


def test_a_token_is_learned_in_every_way(capsys):
    bench_tokens.main(["--epochs", "2", "--steps", "4", "--unseen", "1"])
    said = capsys.readouterr().out
    for row in ("the paper's recipe", "own grid", "L-BFGS", "the default"):
        assert row in said


def test_a_folder_that_is_no_checkout(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench_tokens.main(["--official", str(tmp_path)])
    assert "holds no folder 'ovam'" in capsys.readouterr().err
