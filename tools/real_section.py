"""Run a lesson's section "On real data" alone, and save its pictures.

XAILAB_DATA=data python tools/real_section.py 05 docs/05     makes docs/05_0.jpg, docs/05_1.jpg, ...
"""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jupytext
from matplotlib.figure import Figure
from PIL import Image

HEADING, BEHIND = "## On real data", "## Summary"
EVERY = sorted((Path(__file__).resolve().parents[1] / "notebooks" / "source").rglob("*.py"))
SOURCES = [path for path in EVERY if f"# {HEADING}\n" in path.read_text(encoding="utf-8")]  # lessons, then deeper ones


def code(source: Path) -> list[str]:
    """The section's code cells."""
    cells = jupytext.read(source, fmt="py:percent").cells
    headings = [cell.source.splitlines()[0] if cell.cell_type == "markdown" else "" for cell in cells]
    first, last = headings.index(HEADING), headings.index(BEHIND)
    assert not any(heading.startswith("## ") for heading in headings[first + 1 : last]), f"{source}: not the last"
    return [cell.source for cell in cells[first:last] if cell.cell_type == "code"]


def run(source: Path, show: Callable[[Figure, str], None]) -> Iterator[str]:
    """Run the section as after a fresh start; what each cell prints, one after the other."""
    from xailab import figures

    values, usual = {}, figures.show
    figures.show = show
    try:
        for cell in code(source):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(cell, source.name, "exec"), values)
            yield out.getvalue()
    finally:
        figures.show = usual


def main(number: str, output: str) -> None:
    from xailab import figures

    pictures = []
    source = next(path for path in SOURCES if path.name.startswith(number))
    print(*run(source, lambda figure, alt, **options: pictures.append((figures.png(figure), alt))), sep="\n")
    for i, (data, alt) in enumerate(pictures):
        path = Path(f"{output}_{i}.jpg")
        Image.open(io.BytesIO(data)).convert("RGB").save(path, quality=88)
        print(f"{path}: {alt}")


if __name__ == "__main__":
    main(*sys.argv[1:])
