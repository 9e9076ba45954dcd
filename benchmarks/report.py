"""What the benchmarks print alike."""

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision

from xailab.tables import padded


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, padded so that it can be read as it is."""
    lines = padded([head, *rows], range(len(head)), rule=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What the figures depend on."""
    return f"{torch.get_num_threads()} threads of {os.cpu_count()} CPUs, torch {torch.__version__}, " + (
        f"torchvision {torchvision.__version__}"
    )


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_memory(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and the resident memory at its peak beyond that before, in bytes (Linux, glibc)."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed would be used again, unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    before = _memory("VmRSS")
    result = call()
    return result, _memory("VmHWM") - before


def _memory(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
