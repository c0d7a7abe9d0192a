"""What test files share: the bundled model, loaded once, and processes that need not import torch anew.

A process that is started afresh spends seconds on imports before it does anything. Those of `started` are
forked from a server that has imported everything and done nothing; each is a process of its own, with the
environment that torchrun gives to one of several, and can be killed as any other.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

IMPORTED = [
    "ovamnb.evaluation.__main__",
    "ovamnb.synthesize.__main__",
    "ovamnb.downstream.__main__",
    "ovamnb.evidence.clip",
    "diffusers.pipelines.stable_diffusion",
    "transformers.models.clip.modeling_clip",
]


@cache
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


def started(module: str, arguments: list[str], said: Path, *, count: int = 1) -> list:
    """`python -m module arguments` in `count` processes that know of one another; `said`: the file that gets
    what they print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    several = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(count):
        own = several | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
        processes.append(server().Process(target=run, args=(module, arguments, str(said), own)))
        processes[-1].start()
    return processes


def run(module: str, arguments: list[str], said: str, environment: dict[str, str]) -> None:
    """The whole life of such a process; it computes with as many threads as the tests, since other sums of
    numbers would be other files."""
    threads = os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.update(environment | {"HF_HUB_OFFLINE": "1"})
    with open(said, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = [module, *arguments]
    import torch

    torch.set_num_threads(int(threads))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def ended(processes: list, seconds: float = 240) -> list[int | None]:
    """Their exit codes, in order; None for one that had to be killed since it did not end."""
    deadline, codes = time.monotonic() + seconds, []
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        codes.append(process.exitcode)
        process.kill()
    return codes


def wait_until(there, processes: list, seconds: float = 240) -> None:
    """Until `there()`, one of the processes has ended, or the time is up."""
    deadline = time.monotonic() + seconds
    while not there() and all(process.is_alive() for process in processes) and time.monotonic() < deadline:
        time.sleep(0.02)


def on_pretend_device(code: str) -> list[str]:
    """The words that `code` prints with the imitated device on (`accelerator`), in a process of its own: a
    process that has imported it has an accelerator for good, and `load_pipeline` would take it."""
    tests = Path(__file__).parent
    head = (
        f"import sys; sys.path[:0] = [{str(tests.parent)!r}, {str(tests)!r}]\n"
        "import torch, accelerator\nimport ovamnb as ov\n"
        "with accelerator.Accelerator() as device:\n"
    )
    code = head + "".join(f"    {line}\n" for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout.split()


@cache
def bundled_pipe():
    """The bundled model on the CPU; nobody changes it."""
    import ovamnb as ov

    pipe = ov.load_pipeline(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def loaded_once(monkeypatch):
    """Commands get that one, whichever they ask for."""
    pipe = bundled_pipe()
    monkeypatch.setattr("ovamnb.pipelines.load_pipeline", lambda *name, **options: pipe)
