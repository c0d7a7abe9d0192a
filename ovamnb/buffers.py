"""Where recorded queries are kept while an image is generated, so that a GPU never waits for them."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from .pipelines import free_bytes

SHARE = 0.25
"""Of a GPU's free memory, what queries may take on their way to the CPU; the VAE needs some after them."""
UNKNOWN = 16  # steps to begin with where nobody says how many there will be

Key = tuple[str, str]  # half, block


class QueryBuffers:
    """One buffer (step, image, h·w, head·head_dim) for each half and block, made at its first query.

        buffers = QueryBuffers(torch.device("cpu"), torch.float16, steps=50)
        buffers.add(("conditional", "mid_block…"), query)     # in a hook: (image, h·w, head·head_dim)
        buffers.step_done()                                    # after every step
        buffers.finish()                                       # {("conditional", "mid_block…"): Tensor}

    `device`: where all of it is after `finish`. Queries of a model elsewhere stay on the model's device,
    block by block, as long as all their steps fit into `SHARE` of its free memory. The rest leaves after each
    step: into pinned memory, on a stream of its own that waits for one event a step, so that neither the GPU
    nor Python waits. `steps`: how many will be kept; None where that is not known, and buffers grow.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, steps: int | None) -> None:
        self.device = torch.empty(0, device=device).device  # "cuda" is "cuda:0" here, as tensors call it
        self.dtype, self.steps = dtype, steps
        self.buffers: dict[Key, Tensor] = {}
        self.leaving: list[tuple[Key, Tensor]] = []  # this step's, not yet on their way to the CPU
        self.done = 0  # steps
        self.room: float | None = None  # bytes that are left of the share of the model's device
        self.stream: torch.cuda.Stream | None = None

    def add(self, key: Key, query: Tensor) -> None:
        """Keep a copy of one step's queries (image, h·w, head·head_dim); a view would keep the whole batch of
        activations alive."""
        # Under torch.inference_mode a hook's new tensors could not enter an optimisation later.
        with torch.inference_mode(False):
            if key not in self.buffers:
                self.buffers[key] = self._buffer(query)
            buffer = self.buffers[key]
            if len(buffer) == self.done:
                buffer = self.buffers[key] = self._twice(buffer)
        if buffer.device == query.device:
            buffer[self.done].copy_(query)
        else:
            self.leaving.append((key, query.to(self.dtype, copy=True)))

    def _buffer(self, query: Tensor) -> Tensor:
        shape = (self.steps or UNKNOWN, *query.shape)
        size = self.dtype.itemsize * self.steps * query.numel() if self.steps else float("inf")
        device = self.device
        if device != query.device:
            if self.room is None:
                self.room = SHARE * free_bytes(query.device)
            if size <= self.room:
                self.room -= size
                device = query.device
        return _empty(shape, self.dtype, device, query.is_cuda)

    def _twice(self, buffer: Tensor) -> Tensor:
        """A buffer of twice the steps, with all that is in this one."""
        if self.stream is not None:
            self.stream.synchronize()  # what is still on its way into the old one
        larger = _empty((2 * len(buffer), *buffer.shape[1:]), buffer.dtype, buffer.device, buffer.is_pinned())
        larger[: len(buffer)] = buffer
        return larger

    def step_done(self) -> None:
        if self.leaving:
            with self._beside(self.leaving[0][1].device):
                for key, query in self.leaving:
                    self.buffers[key][self.done].copy_(query, non_blocking=self.stream is not None)
                    if self.stream is not None:  # its memory is used until the copy is done
                        query.record_stream(self.stream)
            self.leaving.clear()
        self.done += 1

    def _beside(self, device: torch.device):
        """A stream that begins where the device is now, and is not waited for."""
        if device.type != "cuda":
            return nullcontext()
        self.stream = self.stream or torch.cuda.Stream(device)
        self.stream.wait_stream(torch.cuda.current_stream(device))
        return torch.cuda.stream(self.stream)

    @property
    def step_bytes(self) -> int:
        """What one step takes."""
        return sum(buffer[0].numel() * buffer.element_size() for buffer in self.buffers.values())

    def finish(self) -> dict[Key, Tensor]:
        """{(half, block): (step, image, h·w, head·head_dim)}, all on `device`; the buffers are given up."""
        found, devices = {}, set()
        with torch.inference_mode(False):
            while self.buffers:
                key, buffer = self.buffers.popitem()
                kept = buffer[: self.done]
                if buffer.device != self.device:
                    devices.add(buffer.device)
                    target = _empty(kept.shape, kept.dtype, self.device, buffer.is_cuda)
                    kept = target.copy_(kept, non_blocking=buffer.is_cuda)
                elif len(kept) < len(buffer):
                    kept = kept.clone()  # the rest of its memory is free again
                found[key] = kept
        if self.stream is not None:
            self.stream.synchronize()
        for device in devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return dict(reversed(found.items()))


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, pinned: bool) -> Tensor:
    """On the CPU `pinned`, so that a GPU copies by itself, unless the system grants no more of it."""
    if pinned and device.type == "cpu":
        try:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        except RuntimeError:
            pass
    return torch.empty(shape, dtype=dtype, device=device)
