"""What the benchmarks print alike."""

import os
from collections.abc import Sequence

import torch
import torchvision


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, padded so that it can be read as it is."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def machine() -> str:
    """What the figures depend on."""
    return f"{torch.get_num_threads()} threads of {os.cpu_count()} CPUs, torch {torch.__version__}, " + (
        f"torchvision {torchvision.__version__}"
    )
