"""How the notebooks are tested: nbval runs every cell, and this file compares its output with the saved one.

nbval itself compares text to the letter and pictures not at all. Here
- a picture has to be there, to show something, and to look like the saved one, so that a missing, blank or
  different picture fails; edges may lie up to two pixels off, as fonts and processors have it;
- decimal numbers in texts may differ by 0.1 %, by one unit of their last digit, or by 1e-6; words, and integers,
  which count things, are compared exactly;
- kinds of output that are missing or new fail; of a widget only its presence counts;
- solutions are saved without pictures, so pictures are not looked for there.
"""

import base64
import functools
import io
import re
from collections import defaultdict

import cv2
import numpy as np
from nbval.plugin import IPyNbCell
from PIL import Image

RELATIVE, ABSOLUTE = 1e-3, 1e-6
FAINT, STRONG = 0.03, 0.3  # differences in brightness, of 1: the faint do not count, the strong are counted
LARGEST_MEAN, LARGEST_SHARE = 0.002, 0.001
TILE, LARGEST_SHARE_OF_A_TILE = 24, 0.03  # so that one changed title in a large figure counts too
WIDGET = "An explorer: run this cell to use it."  # what tools/build_notebooks.py saves in place of a widget
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PICTURES = {"image/png", "image/jpeg"}
DECIMAL = re.compile(r" *(?<![\w.])([-+]?(?:(?:0|[1-9]\d*)\.\d*(?:[eE][-+]?\d+)?|[1-9]\d*[eE][-+]?\d+))")


def pytest_collection_modifyitems(items):
    for item in items:
        if isinstance(item, IPyNbCell):
            item.compare_outputs = functools.partial(compare_outputs, item)


def compare_outputs(cell: IPyNbCell, computed: list, saved: list, skip_compare=None) -> bool:
    """Compare a cell's outputs with the saved ones; what is wrong goes to `cell.comparison_traceback`."""
    solved = cell.path.parent.name == "solutions"
    new, old = (by_kind(outputs, pictures=not solved) for outputs in (computed, saved))
    cell.comparison_traceback = [
        f"{len(old[kind])} saved, {len(new[kind])} computed: {kind}"
        for kind in sorted(old.keys() | new.keys())
        if len(old[kind]) != len(new[kind])
    ] or [
        f"{kind}: {wrong}"
        for kind in old
        for before, after in zip(old[kind], new[kind], strict=True)
        if (wrong := (compare_pictures if kind == "picture" else compare_texts)(before, after))
    ]
    return not cell.comparison_traceback


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
    before, after = np.asarray(before), np.asarray(after.resize(before.size))
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


def outside(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """How far (h, w, 3) each pixel lies outside the range of its 5 x 5 neighbourhood in the reference."""
    around = np.ones((5, 5), np.uint8)
    above = cv2.subtract(picture, cv2.dilate(reference, around))  # 0 where the difference is negative
    below = cv2.subtract(cv2.erode(reference, around), picture)
    return (above + below) / 255
