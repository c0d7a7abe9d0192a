"""Run a command with other arithmetic: the same program as another computer would compute it.

    python -m workshop.measure.arithmetic sse 2 -- python -m pytest tests   # no AVX, two threads

A sum of floating-point numbers depends on their order, and the order on the vector instructions that a CPU
has and on the number of threads. What differs between these settings differs between readers' computers, too.
They hold for PyTorch's own kernels (ATEN), for convolutions (oneDNN) and for matrix products (MKL).
"""

from __future__ import annotations

import os
import sys

KERNELS = {
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    "sse": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
VARIED = (("native", 1), ("avx2", 2), ("sse", 1), ("sse", 2))
"""What is compared where time is short: every kind of kernels, one thread and two."""


def environment(kernels: str, threads: int) -> dict[str, str]:
    """The environment variables of a setting; threads that wait leave the core to others."""
    if kernels not in KERNELS:
        raise ValueError(f"There is no arithmetic {kernels!r}: say {', '.join(KERNELS)}.")
    # MKL takes OpenMP's number, too, so that what is started below has one variable to change.
    return KERNELS[kernels] | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> None:
    """Become the command, in the setting's environment."""
    try:
        (kernels, threads), command = sys.argv[1:3], sys.argv[sys.argv.index("--") + 1 :]
        setting = environment(kernels, int(threads))
        os.execvpe(command[0], command, os.environ | setting)
    except (ValueError, IndexError, OSError) as error:
        known = "|".join(KERNELS)
        sys.exit(f"usage: python -m workshop.measure.arithmetic {known} THREADS -- COMMAND …: {error}")


if __name__ == "__main__":
    main()
