"""Queries find their place, however many steps come, and nothing is held twice."""

import pytest
import torch

from ovamnb import buffers as module
from ovamnb.buffers import QueryBuffers

CPU = torch.device("cpu")
KEYS = [("conditional", "up"), ("unconditional", "up"), ("conditional", "down")]


def filled(buffers, steps):
    """Every step's queries (image 2, h·w 6, head·head_dim 4), by key."""
    generator = torch.Generator().manual_seed(0)
    given = {key: torch.randn(steps, 2, 6, 4, generator=generator) for key in KEYS}
    for step in range(steps):
        for key in KEYS:
            buffers.add(key, given[key][step])
        buffers.step_done()
    return given


@pytest.mark.parametrize("planned", [None, 3, 5, 8])
@pytest.mark.parametrize("steps", [1, 5, 9])
def test_what_went_in_comes_out(planned, steps):
    buffers = QueryBuffers(CPU, torch.float64, planned)
    given = filled(buffers, steps)
    found = buffers.finish()
    assert list(found) == KEYS, "in the order of their first queries"
    for key in KEYS:
        assert found[key].dtype == torch.float64 and torch.equal(found[key], given[key].double())
        assert found[key].untyped_storage().nbytes() == found[key].nbytes, "no memory beside it"


def test_a_full_buffer_is_handed_over_as_it_is():
    buffers = QueryBuffers(CPU, torch.float16, 4)
    filled(buffers, 4)
    assert buffers.step_bytes == 3 * 2 * 6 * 4 * 2
    places = {key: buffer.data_ptr() for key, buffer in buffers.buffers.items()}
    assert {key: query.data_ptr() for key, query in buffers.finish().items()} == places
    assert not buffers.buffers


def test_a_copy_is_kept_not_the_models_own_tensor():
    buffers, query = QueryBuffers(CPU, torch.float32, 1), torch.ones(1, 6, 4)
    buffers.add(KEYS[0], query)
    query.zero_()
    buffers.step_done()
    assert buffers.finish()[KEYS[0]].min() == 1


def test_nothing_of_inference_mode_is_left_in_them():
    buffers = QueryBuffers(CPU, torch.float16, None)
    with torch.inference_mode():
        filled(buffers, 3)
        found = buffers.finish()
    assert not any(query.is_inference() for query in found.values())


def test_one_step_takes_the_room_of_one():
    """What is shown to the UNet by hand says nowhere how many steps come."""
    buffers = QueryBuffers(CPU, torch.float16, None)
    filled(buffers, 1)
    assert sum(buffer.nbytes for buffer in buffers.buffers.values()) == buffers.step_bytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("share", [0.25, 0.0])
@pytest.mark.parametrize("planned", [None, 5, 8])
@pytest.mark.parametrize("device", ["cpu", None])
def test_from_a_gpu(monkeypatch, share, planned, device):
    """What went in comes out, also where the copies are still on their way when it ends."""
    monkeypatch.setattr(module, "SHARE", share)
    buffers = QueryBuffers(device and torch.device(device), torch.float16, planned)
    for step in range(5):
        torch.cuda._sleep(50_000_000)  # the step is not done when it is asked to be kept
        buffers.add(KEYS[0], torch.full((2, 4096, 320), step, device="cuda", dtype=torch.float16))
        buffers.step_done()
    found = buffers.finish()[KEYS[0]]
    assert found.device.type == ("cuda" if device is None and share else "cpu")
    assert found[:, 0, 0, 0].tolist() == list(range(5)) and (found == found[:, :1, :1, :1]).all()
