"""How the notebooks are tested: nbval runs every cell, and this file compares its output with the saved one.

A lesson is run once. After each of its exercises follow the cells of its solutions that the lesson has not, and before
its explorer the functions of tests/claims/NN_name.py, which check what its text says. The notebooks of the solutions
are run as they stand by the slow tests only.

nbval itself compares text to the letter and pictures not at all. Here
- a picture has to be there, to show something, and to look like the saved one, so that a missing, blank or
  different picture fails; edges may lie up to two pixels off, as fonts and processors have it;
- decimal numbers in texts may differ by 0.1 %, by one unit of their last digit, or by 1e-6; words, and integers,
  which count things, are compared exactly;
- kinds of output that are missing or new fail; of a widget only its presence counts;
- solutions are saved without pictures, so pictures are not looked for there.
"""

import base64
import difflib
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import claims
import cv2
import nbformat
import numpy as np
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError
from PIL import Image

NOTEBOOKS = Path(__file__).parent
RELATIVE, ABSOLUTE = 1e-3, 1e-6
FAINT, STRONG = 0.03, 0.3  # differences in brightness, of 1: the faint do not count, the strong are counted
LARGEST_MEAN, LARGEST_SHARE = 0.002, 0.001
NEAR = np.ones((9, 9), np.uint8)  # two pixels of a screen in each direction; pictures are stored with twice as many
TILE, LARGEST_SHARE_OF_A_TILE = 48, 0.03  # so that one changed title in a large figure counts too
WIDGET = "An explorer: run this cell to use it."  # what tools/build_notebooks.py saves in place of a widget
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PICTURES = {"image/png", "image/jpeg"}
DECIMAL = re.compile(r" *(?<![\w.])([-+]?(?:(?:0|[1-9]\d*)\.\d*(?:[eE][-+]?\d+)?|[1-9]\d*[eE][-+]?\d+))")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(parent):
    found = yield
    return [Notebook.from_parent(parent, path=each.path) if isinstance(each, IPyNbFile) else each for each in found]


class Notebook(IPyNbFile):
    """A notebook whose cells are tests: a lesson, with its solutions and claims among them, or a solution."""

    def collect(self) -> Iterator["Cell"]:
        place = self.path.relative_to(NOTEBOOKS)
        solved = place.parts[0] == "solutions"
        cells = [self.cell(each, each.name, pictures=not solved) for each in super().collect()]
        if solved:
            for cell in cells:
                cell.add_marker("slow")
        explorer = self.code_cells_before("^## Explorer")
        cells[explorer:explorer] = self.claims(NOTEBOOKS.parent / "tests" / "claims" / place.with_suffix(".py"))
        solutions = NOTEBOOKS / "solutions" / place
        return self.with_solutions(cells, solutions) if solutions.exists() else iter(cells)

    def cell(self, like: IPyNbCell, name: str, *, pictures: bool) -> "Cell":
        cell = Cell.from_parent(self, name=name, cell_num=like.cell_num, cell=like.cell, options=like.options)
        cell.pictures = pictures
        return cell

    def code_cells_before(self, heading: str) -> int:
        cells = self.nb.cells
        place = next((i for i, cell in enumerate(cells) if re.search(heading, cell.source, re.MULTILINE)), len(cells))
        return sum(cell.cell_type == "code" for cell in cells[:place])

    def claims(self, path: Path) -> Iterator["Claim"]:
        for name in claims.names(path):
            call = f"__import__('runpy').run_path({claims.__file__!r})['check']({str(path)!r}, {name!r}, globals())"
            cell = nbformat.v4.new_code_cell(call, execution_count=1)
            yield Claim.from_parent(self, name=name, cell_num=0, cell=cell, options=defaultdict(bool, check=True))

    def with_solutions(self, cells: list["Cell"], solutions: Path) -> Iterator["Cell"]:
        """The lesson's cells, and after those that the solutions have others for, these others."""
        theirs = list(Notebook.from_parent(self.parent, path=solutions).collect())
        ids = [[each.cell.id for each in group] for group in (cells, theirs)]
        for kind, i, j, k, m in difflib.SequenceMatcher(None, *ids, autojunk=False).get_opcodes():
            yield from cells[i:j]
            for each in theirs[k:m] if kind != "equal" else ():
                yield self.cell(each, f"Solution {each.cell_num}", pictures=False)


class Cell(IPyNbCell):
    """A cell that is run and compared."""

    pictures = True  # whether its pictures have been saved

    def reportinfo(self):
        return self.path, 0, self.nodeid

    def compare_outputs(self, test: list, ref: list, skip_compare=None) -> bool:
        """Compare what was computed with what was saved; what is wrong goes to `comparison_traceback`."""
        new, old = (by_kind(outputs, pictures=self.pictures) for outputs in (test, ref))
        self.comparison_traceback = differences(old, new)
        return not self.comparison_traceback


class Claim(Cell):
    """A function of tests/claims, run in the lesson's kernel."""

    def repr_failure(self, excinfo):
        if not isinstance(excinfo.value, NbCellError):
            return super().repr_failure(excinfo)
        return f"What the lesson says does not hold any more.\n{excinfo.value.inner_traceback}"


def differences(old: dict[str, list[str]], new: dict[str, list[str]]) -> list[str]:
    """Say where computed outputs (by kind) differ from saved ones."""
    return [
        f"{len(old[kind])} saved, {len(new[kind])} computed: {kind}"
        for kind in sorted(old.keys() | new.keys())
        if len(old[kind]) != len(new[kind])
    ] or [
        f"{kind}: {wrong}"
        for kind in old
        for before, after in zip(old[kind], new[kind], strict=True)
        if (wrong := (compare_pictures if kind == "picture" else compare_texts)(before, after))
    ]


def by_kind(outputs: list, *, pictures: bool) -> defaultdict[str, list[str]]:
    """Outputs as lists of values by kind: "stdout", "error", "widget", "picture" or a MIME type."""
    kinds = defaultdict(list)
    for output in outputs:
        data = output.get("data", {})
        if output.output_type == "stream":
            kinds[output.name].append(output.text)
        elif output.output_type == "error":
            kinds["error"].append(f"{output.ename}: {output.evalue}")
        elif WIDGET_VIEW in data or data.get("text/plain") == WIDGET:
            kinds["widget"].append("")
        else:
            for kind, value in data.items():
                if kind not in PICTURES:
                    kinds[kind].append(value)
                elif pictures:
                    kinds["picture"].append(value)
    return kinds


def compare_texts(saved: str, computed: str) -> str | None:
    """Say at which line two texts differ, decimal numbers with tolerance; None if they agree."""
    saved, computed = str(saved).splitlines(), str(computed).splitlines()
    for before, after in zip(saved, computed, strict=False):
        old, new = DECIMAL.split(before), DECIMAL.split(after)  # words at even places, numbers at odd ones
        if len(old) != len(new) or old[::2] != new[::2] or not all(map(close, old[1::2], new[1::2])):
            return f"saved {before!r}, computed {after!r}"
    if len(saved) != len(computed):
        return f"{len(saved)} lines saved, {len(computed)} computed"
    return None


def close(saved: str, computed: str) -> bool:
    """Whether two printed decimals may come from the same computation on two processors."""
    digits = re.sub(r"[eE].*|[-+.]", "", saved).lstrip("0")
    power = int(re.search(r"[eE](.*)", saved)[1]) if "e" in saved.lower() else 0
    decimals = len(re.sub(r"[eE].*", "", saved).partition(".")[2])
    unit = 1.001 * 10.0 ** (power - decimals) if len(digits) > 1 else 0  # rounding flips, but 0.1 is not 0.2
    before, after = float(saved), float(computed)
    return abs(before - after) <= max(RELATIVE * abs(before), ABSOLUTE, unit)


def compare_pictures(saved: str, computed: str) -> str | None:
    """Say how much two pictures (base64) differ; None if they look alike."""
    before, after = decode(saved), decode(computed)
    for name, picture in [("saved", before), ("computed", after)]:
        if picture is None:
            return f"the {name} picture cannot be read"
        if max(high - low for low, high in picture.getextrema()) < 8:
            return f"the {name} picture is blank"
    if any(abs(a - b) > 0.02 * a for a, b in zip(before.size, after.size, strict=True)):
        return f"the saved picture has {before.size} pixels, the computed one {after.size}"
    after = after.resize(before.size)
    difference = np.maximum(outside(before, after), outside(after, before)).max(-1)
    mean, strong = difference[difference > FAINT].sum() / difference.size, difference > STRONG
    share, worst = strong.mean(), tiles(strong).max()
    if mean > LARGEST_MEAN or share > LARGEST_SHARE or worst > LARGEST_SHARE_OF_A_TILE:
        return (
            f"the pictures differ by {mean:.4f} of the full range on average (at most {LARGEST_MEAN}), "
            f"strongly in {share:.2%} of the pixels (at most {LARGEST_SHARE:.2%}), "
            f"and in {worst:.0%} of those in one place (at most {LARGEST_SHARE_OF_A_TILE:.0%})"
        )
    return None


def tiles(strong: np.ndarray) -> np.ndarray:
    """Share of strongly different pixels in each tile of the picture."""
    height, width = (-(-side // TILE) * TILE for side in strong.shape)
    padded = np.zeros((height, width))
    padded[: strong.shape[0], : strong.shape[1]] = strong
    return padded.reshape(height // TILE, TILE, width // TILE, TILE).mean((1, 3))


def decode(picture: str) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
    except (OSError, ValueError, SyntaxError):
        return None
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def outside(picture: Image.Image, reference: Image.Image) -> np.ndarray:
    """How far (h, w, 3) each pixel lies outside the range of its neighbourhood in the reference."""
    picture, reference = np.asarray(picture), np.asarray(reference)
    above = cv2.subtract(picture, cv2.dilate(reference, NEAR))
    below = cv2.subtract(cv2.erode(reference, NEAR), picture)
    return cv2.add(above, below) / 255
