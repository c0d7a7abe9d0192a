"""Where recorded queries are kept while an image is generated, so that a GPU never waits for them."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from .pipelines import free_bytes

SHARE = 0.25
"""Of a device's free memory, what queries may take unasked; a GPU's VAE needs some after them."""
CPU = torch.device("cpu")

Key = tuple[str, str]  # half, block


class QueryBuffers:
    """One buffer (step, image, h·w, head·head_dim) for each half and block, made at its first query.

        buffers = QueryBuffers(torch.device("cpu"), torch.float16, steps=50)
        buffers.add(("conditional", "mid_block…"), query)     # in a hook: (image, h·w, head·head_dim)
        buffers.step_done()                                    # after every step
        buffers.finish()                                       # {("conditional", "mid_block…"): Tensor}

    `device`: where all of it is after `finish`; None for the model's own, if `SHARE` of its free memory holds
    all, else the CPU. Queries of a model elsewhere stay on the model's device meanwhile, block by block, as
    long as that share lasts. The rest leaves after each step: into pinned memory, on a stream of its own that
    waits for one event a step, so that nothing waits for it. `steps`: how many will be kept; None where that
    is not known, and buffers grow.
    """

    def __init__(self, device: torch.device | None, dtype: torch.dtype, steps: int | None) -> None:
        # "cuda" is "cuda:0" here, as tensors call it.
        self.device = None if device is None else torch.empty(0, device=device).device
        self.dtype, self.steps = dtype, steps
        self.buffers: dict[Key, Tensor] = {}
        self.leaving: list[tuple[Key, Tensor]] = []  # this step's, not yet on their way to the CPU
        self.done = 0  # steps
        self.room: dict[torch.device, float] = {}  # bytes that are left of the share
        self.streams: dict[torch.device, torch.cuda.Stream] = {}

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
            there = query.dtype if self._lacks(query.device) else self.dtype
            self.leaving.append((key, query.to(there, copy=True)))

    def _buffer(self, query: Tensor) -> Tensor:
        here, device = query.device, self.device
        size = self.dtype.itemsize * (self.steps or 1) * query.numel()
        if device != here and here != CPU:
            self.room.setdefault(here, SHARE * free_bytes(here))
            fits = size <= self.room[here] and not self._lacks(here)
            # How many steps are still to come nobody knows: then the CPU is safe.
            if fits and (self.steps or device is None):
                self.room[here] -= size
                device = here
        return _empty((self.steps or 1, *query.shape), self.dtype, device or CPU, query.is_cuda)

    def _lacks(self, device: torch.device) -> bool:
        """Whether a device cannot hold this precision."""
        return device.type == "mps" and self.dtype == torch.float64

    def _twice(self, buffer: Tensor) -> Tensor:
        """A buffer of twice the steps, with all that is in this one."""
        self._settle()
        larger = _empty((2 * len(buffer), *buffer.shape[1:]), buffer.dtype, buffer.device, buffer.is_pinned())
        larger[: len(buffer)] = buffer
        return larger

    def step_done(self) -> None:
        for device in {query.device for _, query in self.leaving}:
            with self._beside(device) as stream:
                for key, query in self.leaving:
                    if query.device == device:
                        self.buffers[key][self.done].copy_(query, non_blocking=stream is not None)
                        if stream is not None:  # its memory is used until the copy is done
                            query.record_stream(self.streams[device])
        self.leaving.clear()
        self.done += 1

    def _beside(self, device: torch.device):
        """A stream that begins where the device is now, and is not waited for; None where there is none."""
        if device.type != "cuda":
            return nullcontext()
        if device not in self.streams:
            self.streams[device] = torch.cuda.Stream(device)
        self.streams[device].wait_stream(torch.cuda.current_stream(device))
        return torch.cuda.stream(self.streams[device])

    def _settle(self) -> None:
        """Wait for what is still on its way to the CPU."""
        for stream in self.streams.values():
            stream.synchronize()

    @property
    def step_bytes(self) -> int:
        """What one more step takes of memory that is not taken yet: a CPU's buffers fill up step by step."""
        filling = (buffer for buffer in self.buffers.values() if buffer.device == CPU)
        return sum(buffer[0].nbytes for buffer in filling if not buffer.is_pinned())

    def finish(self) -> dict[Key, Tensor]:
        """{(half, block): (step, image, h·w, head·head_dim)}, all on `device`; the buffers are given up."""
        self._settle()
        places = {buffer.device for buffer in self.buffers.values()}
        if self.device is None:
            self.device = places.pop() if len(places) == 1 else CPU
        found = {}
        with torch.inference_mode(False):
            while self.buffers:
                key, buffer = self.buffers.popitem()
                kept = buffer[: self.done]
                if buffer.device != self.device:
                    target = _empty(kept.shape, kept.dtype, self.device, buffer.is_cuda)
                    kept = target.copy_(kept, non_blocking=buffer.is_cuda)
                elif len(kept) < len(buffer):
                    kept = kept.clone()  # the rest of its memory is free again
                found[key] = kept
        for device in places:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return dict(reversed(found.items()))


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, pinned: bool) -> Tensor:
    """On the CPU `pinned`, so that a GPU copies by itself, unless that would take much of its memory."""
    size = dtype.itemsize * torch.Size(shape).numel()
    if pinned and device.type == "cpu" and size <= SHARE * free_bytes(device):
        try:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        except RuntimeError:  # the system grants no more of it
            pass
    try:
        return torch.empty(shape, dtype=dtype, device=device)
    except torch.OutOfMemoryError:
        raise torch.OutOfMemoryError(
            f"Not enough memory on '{device}' for the queries of {shape[0]} steps: keep fewer steps "
            "(`steps=range(5, 15)`), fewer blocks (`blocks='up'`), or say device='cpu'."
        ) from None
