"""The benchmark runs; what it prints is not tested, since it depends on the machine."""

from ovamnb import bench, bench_memory


def test_every_row_is_printed(capsys):
    bench.main(["--steps", "2", "--repeat", "1", "--no-memory"])
    said = capsys.readouterr().out
    for row in ("record queries", "self-attention at 32", "ask one text", "in one batch", "in one text"):
        assert row in said


def test_a_stack_of_all_maps_is_counted_by_hand():
    found = bench_memory.measure("bundled", "self-attention")
    layers = 3  # on the finest grid: one on the way down, two on the way up
    assert found["stack"] == bench_memory.PASSES * layers * 4 * (32 * 32) ** 2 * 4
