"""One training loop for everything the project trains: progress, EMA, checkpoints that can be resumed, any
device.

    fit("unet", module, loss, batches, steps=20_000, learning_rate=1e-3, folder=Path("runs/bundled"))

`loss(batch)` returns a scalar; `batches(start)` yields batches, each a tensor or several that begin with
one, from step `start` on, so that a resumed run gets the batches that an uninterrupted one would have got.
The random numbers of step i (of `batches` or `loss`, from torch's global generator) depend on `seed` and i
alone: a run that was killed and resumed ends with the same weights, bit for bit, as one that was not.

Checkpoints are safetensors, written whole or not at all: an interrupted run loses at most `every` seconds and
never a file. Without a folder nothing is written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..plumbing.files import whole


@dataclass
class Run:
    """The progress of a run; kept in its checkpoint, so that a resumed run counts on from there."""

    step: int = 0
    scenes: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    """Moving average over about a hundred steps."""


def half_precision(device: torch.device) -> AbstractContextManager:
    """Autocast to bfloat16 where that is faster: on CUDA, and (by a fifth) on CPUs with AVX-512 BF16."""
    fast = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16) if fast else nullcontext()


def learning_rate_factor(step: int, steps: int, warm_up: int = 300, decay: float = 0.25) -> float:
    """Linear warm-up, constant, then cosine to zero over the last quarter: a run can be lengthened before
    that quarter."""
    start = steps * (1 - decay)
    tail = 1.0 if step < start else 0.5 * (1 + math.cos(math.pi * (step - start) / max(1.0, steps - start)))
    return min(1.0, (step + 1) / warm_up) * tail


def step_seed(seed: int, step: int) -> int:
    """The seed of one step's random numbers, unlike that of any other step or run."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0])


def fit(
    name: str,
    module: nn.Module,
    loss: Callable[[Any], Tensor],
    batches: Callable[[int], Iterable],
    *,
    steps: int,
    learning_rate: float,
    folder: Path | None,
    warm_up: int = 300,
    ema_decay: float = 0.9995,
    seed: int = 0,
    every: float = 120.0,
    until: float = math.inf,
    quiet: bool = False,
    backward: Callable[[Any], Tensor] | None = None,
) -> Run:
    """Trains `module` in place until `steps`, resuming from `folder/name.safetensors`; at the end it holds
    the EMA weights.

    learning_rate: AdamW's peak, reached after `warm_up` steps, weight decay 0.01, gradients clipped at norm
    1. On CUDA the loss runs under bfloat16 autocast.
    backward: in place of the loss and its `.backward()`: takes a batch, leaves the gradients in the
    parameters and returns the loss.
    seed: of the random numbers of each step; the caller's random state is left as it was.
    folder: None for a run too short to be worth a checkpoint. every: seconds between checkpoints. until: a
    time of `time.monotonic`; the step that is under way then is the last one, and a checkpoint follows it.
    quiet: no progress bar. Raises FloatingPointError if the loss is no longer finite, naming the last
    checkpoint.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    device = parameters[0].device
    fused = device.type in ("cpu", "cuda")  # on the CPU, one call in place of a thousand: a tenth of a step
    optimizer = torch.optim.AdamW(
        parameters, learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=fused
    )
    # Three kernels for all parameters in place of three for each: a GPU waits for the calls, a CPU does not.
    together = device.type == "cuda"
    ema = EMAModel(parameters, decay=ema_decay, use_ema_warmup=True, power=0.75, foreach=together)
    path, run = None if folder is None else folder / f"{name}.safetensors", Run()
    if path is not None and path.exists():
        run = _load(path, parameters, ema, optimizer)
    saved = started = time.monotonic()
    before = run.seconds
    backward = backward or _backward(loss, parameters)
    module.train()
    bar = tqdm(total=steps, initial=min(run.step, steps), desc=name, mininterval=5, disable=quiet)
    with bar, torch.random.fork_rng():
        stream = iter(batches(run.step) if run.step < steps else ())
        while run.step < steps:
            torch.manual_seed(step_seed(seed, run.step))
            batch = next(stream, None)
            if batch is None:
                break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * learning_rate_factor(run.step, steps, warm_up)
            value = backward(batch)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            ema.step(parameters)
            run.step += 1
            run.scenes += len(batch if isinstance(batch, Tensor) else batch[0])
            if run.step % 10 == 0:  # reading the loss waits for the device
                new = value.item()
                if not math.isfinite(new):
                    remedy = "with a lower rate" if path is None else f"from {path}"
                    raise FloatingPointError(f"{name}: loss {new} at step {run.step}; start again {remedy}.")
                run.loss = new if math.isnan(run.loss) else 0.9 * run.loss + 0.1 * new
                bar.set_postfix(loss=f"{run.loss:.4f}", refresh=False)
            bar.update()
            now = time.monotonic()
            run.seconds = before + now - started
            last = run.step >= steps or now >= until
            if path is not None and (now - saved > every or last):
                _save(path, parameters, ema, optimizer, run)
                saved = time.monotonic()
            if last:
                break
    ema.copy_to(parameters)
    module.eval()
    return run


def _backward(loss: Callable[[Any], Tensor], parameters: list[nn.Parameter]) -> Callable[[Any], Tensor]:
    """A function of a batch that leaves its gradients in the parameters and returns its loss."""
    on_cuda = parameters[0].device.type == "cuda"  # not every kind of device has an autocast

    def backward(batch: Any) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16) if on_cuda else nullcontext():
            value = loss(batch)
        for parameter in parameters:
            parameter.grad = None
        value.backward()
        return value

    return backward


def _save(
    path: Path, parameters: list[nn.Parameter], ema: EMAModel, optimizer: torch.optim.Optimizer, run: Run
) -> None:
    tensors = {f"model.{i}": p.detach() for i, p in enumerate(parameters)}
    tensors |= {f"ema.{i}": p for i, p in enumerate(ema.shadow_params)}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{key}": value for key, value in state.items()}
    try:
        with whole(path, make_folder=True) as partial:
            save_file(
                {k: v.contiguous() for k, v in tensors.items()}, partial, {"run": json.dumps(vars(run))}
            )
    except OSError as error:
        kept = "the one before it is whole" if path.exists() else "there is none before it"
        raise OSError(
            f"The checkpoint of step {run.step} is missing: {error} Then run the same command again; {kept}."
        ) from error


def _load(path: Path, parameters: list[nn.Parameter], ema: EMAModel, optimizer: torch.optim.Optimizer) -> Run:
    with safe_open(path, "pt") as file:
        run = Run(**json.loads(file.metadata()["run"]))
        names = list(file.keys())
        count = sum(name.startswith("model.") for name in names)
        if count != len(parameters):
            raise ValueError(
                f"{path} holds {count} tensors, the model {len(parameters)}: another folder, or delete it."
            )
        adam: dict[int, dict[str, Tensor]] = {}
        for name in names:
            kind, index, *rest = name.split(".")
            tensor, parameter = file.get_tensor(name), parameters[int(index)].data
            if kind == "adam":
                # laid out in memory as its parameter is: a fused step walks through both side by side
                same = tensor.shape == parameter.shape
                adam.setdefault(int(index), {})[rest[0]] = (
                    torch.empty_like(parameter).copy_(tensor) if same else tensor
                )
            else:
                (parameter if kind == "model" else ema.shadow_params[int(index)]).copy_(tensor)
    ema.optimization_step = run.step
    optimizer.load_state_dict({"state": adam, "param_groups": optimizer.state_dict()["param_groups"]})
    return run
