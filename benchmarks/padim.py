"""PaDiM's statistics: our time and memory beside anomalib's, and beside a loop over positions, in one run.

    python benchmarks/padim.py

README.md in this folder says what the columns mean.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from report import machine, peak_memory, seconds, table
from scipy.spatial.distance import mahalanobis
from torch import Tensor
from tqdm import tqdm

from xailab.datasets import inspection
from xailab.images import Preprocess
from xailab.models import zoo
from xailab.padim import Gaussians, PaDiM

BATCH, EPSILON = 32, 0.01
LAYERS = ("layer1", "layer2", "layer3")
CASES = ["resnet18:100", "wide_resnet50_2:550"]
OURS, LOOPS, ANOMALIB = "xailab", "loops", "anomalib"
Layers = list[Tensor]
Found = tuple[float, float, int, Tensor]


# Each method takes a folder of batches, and returns the seconds to fit and to score, the bytes of what it keeps, and
# the distances. Reading the batches, and stacking them for those that want one stack, is not timed.


def ours(folder: Path) -> Found:
    """Batch by batch, each layer at its own resolution."""
    return _streamed(batches(folder, "normal"), batches(folder, "test"))


def ours_without_sharing(folder: Path) -> Found:
    """The same on the layers repeated to the finest grid, so that no block is shared."""
    return _streamed(*(([stacked(layers)] for layers in batches(folder, split)) for split in ("normal", "test")))


def _streamed(normal: Iterator[Layers], test: Iterator[Layers]) -> Found:
    state, fit, score, found = None, 0.0, 0.0, []
    for layers in normal:
        state = state or Gaussians([tuple(layer.shape[1:]) for layer in layers], epsilon=EPSILON)
        fit += seconds(partial(state.update, layers))
    fit += seconds(state.factorise)
    kept = state.nbytes
    for layers in test:
        score += seconds(lambda layers=layers, state=state: found.append(state.distances(layers)))
    return fit, score, kept, torch.cat(found)


def anomalib(folder: Path) -> Found:
    """anomalib's own classes."""
    from anomalib.models.components import MultiVariateGaussian
    from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

    normal, gaussian, found = stack(folder, "normal"), MultiVariateGaussian(), []
    fit = seconds(lambda: gaussian.fit(normal))
    kept = [gaussian.mean, gaussian.inv_covariance]
    test = stack(folder, "test")
    score = seconds(lambda: found.append(AnomalyMapGenerator.compute_distance(test, kept)))
    return fit, score, sum(tensor.nbytes for tensor in kept), found[0][:, 0]


def loops(folder: Path) -> Found:
    """One covariance after another, then one inverse after another and one distance after another, as tutorials do."""
    normal = stack(folder, "normal").flatten(2).numpy()
    _, d, positions = normal.shape
    mean, covariance = normal.mean(0), np.empty((d, d, positions), np.float32)

    def fit() -> None:
        for i in range(positions):
            covariance[:, :, i] = np.cov(normal[:, :, i], rowvar=False) + EPSILON * np.eye(d)

    fitted = seconds(fit)
    test = stack(folder, "test")
    found = np.empty((positions, len(test)))

    def score() -> None:
        vectors = test.flatten(2).numpy()
        for i in range(positions):
            inverse = np.linalg.inv(covariance[:, :, i])
            found[i] = [mahalanobis(vector[:, i], mean[:, i], inverse) for vector in vectors]

    scored = seconds(score)
    maps = torch.from_numpy(found.T.copy()).float().view(len(test), *test.shape[2:])
    return fitted, scored, mean.nbytes + covariance.nbytes, maps


METHODS: dict[str, Callable[[Path], Found]] = {
    OURS: ours,
    "xailab, nothing shared": ours_without_sharing,
    ANOMALIB: anomalib,
    LOOPS: loops,
}


# What they work on


def write_features(folder: Path, backbone: str, dimensions: int, normal: int, test: int, size: int) -> list[int]:
    """Write the chosen channels of rendered pictures in batches, and return how many channels each layer keeps."""
    detector = PaDiM(zoo.load(backbone, weights=None), LAYERS, dimensions)
    preprocess = Preprocess(resize=size)
    for split, count in (("normal", normal), ("test", test)):
        data = inspection.Inspection("gear", "train" if split == "normal" else "test", n=count, size=size)
        for start in tqdm(range(0, count, BATCH), desc=f"{backbone}, {split} pictures", leave=False):
            pictures = [data[i].image for i in range(start, min(start + BATCH, count))]
            layers = detector.embed(preprocess(np.stack(pictures)))
            for layer, features in zip(LAYERS, layers, strict=True):
                np.save(folder / f"{split}-{start:04}-{layer}.npy", features.numpy())
    return [layer.shape[1] for layer in layers]


def batches(folder: Path, split: str) -> Iterator[Layers]:
    starts = sorted({path.name.split("-")[1] for path in folder.glob(f"{split}-*.npy")})
    for start in starts:
        yield [torch.from_numpy(np.load(folder / f"{split}-{start}-{layer}.npy")) for layer in LAYERS]


def stacked(layers: Layers) -> Tensor:
    """Repeat the coarser layers to the finest grid, (n, d, h, w)."""
    grid = layers[0].shape[2:]
    return torch.cat([F.interpolate(layer, grid) for layer in layers], 1)


def stack(folder: Path, split: str) -> Tensor:
    return torch.cat([stacked(layers) for layers in batches(folder, split)])


# What is measured


def measure_here(name: str, folder: Path) -> None:
    """Run one method in this process, which is its own, and print what was found as JSON."""
    warnings.simplefilter("ignore")
    if name == ANOMALIB:
        import anomalib.models.components  # noqa: F401  not part of its memory
    next(batches(folder, "test"))
    Gaussians([(1, 1, 1)])
    (fit, score, kept, maps), peak = peak_memory(partial(METHODS[name], folder))
    np.save(folder / f"maps-{name}.npy", maps.numpy())
    print(json.dumps({"fit": fit, "score": score, "kept": kept, "peak": peak}))


def measure(name: str, folder: Path, repeats: int, limit: float, threads: int) -> dict | str:
    """The quickest of some processes; or why there is none."""
    results = []
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "--here", name, str(folder)]
    for _ in range(repeats):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
        except subprocess.TimeoutExpired:
            return f"not done after {limit:.0f} s"
        if ran.returncode:
            lines = ran.stderr.strip().splitlines()
            return lines[-1][:60] if lines else f"killed by signal {-ran.returncode}"
        results.append(json.loads(ran.stdout.strip().splitlines()[-1]))
    best = min(results, key=lambda result: result["fit"] + result["score"])
    return best | {"peak": min(result["peak"] for result in results)}


def rows(folder: Path, methods: Sequence[str], options: argparse.Namespace) -> list[list[str]]:
    """Lines of the table for one case."""
    found = {}
    for name in tqdm(methods, desc="methods", leave=False):
        found[name] = measure(name, folder, options.repeats, options.limit, options.threads)
    mine, lines = found[OURS], []
    if isinstance(mine, str):
        raise RuntimeError(f"our own did not come to an end: {mine}")
    for name, result in found.items():
        if isinstance(result, str):
            lines.append([name, result, "", "", "", "", ""])
            continue
        ratio = (result["fit"] + result["score"]) / (mine["fit"] + mine["score"])
        maps, reference = (np.load(folder / f"maps-{each}.npy") for each in (name, OURS))
        apart = float(np.abs(maps / reference - 1).max())
        times = [f"{result['fit']:.2f}", f"{result['score']:.2f}", f"{ratio:.1f}"]
        sizes = [f"{result[what] / 2**20:.0f} MiB" for what in ("kept", "peak")]
        lines.append([name, *times, *sizes, "" if name == OURS else f"{apart:.0e}"])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES, help="network:dimensions")
    parser.add_argument("--normal", nargs="+", type=int, default=[60, 209], help="numbers of normal pictures")
    parser.add_argument("--test", type=int, default=83, help="number of test pictures")
    parser.add_argument("--size", type=int, default=224, help="of the pictures, in pixels")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each method; the quickest counts")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which a method is given up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch and NumPy")
    parser.add_argument("--here", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        return measure_here(options.here[0], Path(options.here[1]))
    torch.set_num_threads(options.threads)
    print(machine())
    methods = [OURS, *(name for name in options.methods if name != OURS)]
    lines = []
    for case in options.cases:
        backbone, dimensions = case.split(":")
        for normal in options.normal:
            with tempfile.TemporaryDirectory() as folder:
                write_features(Path(folder), backbone, int(dimensions), normal, options.test, options.size)
                lines += [[case, str(normal), *row] for row in rows(Path(folder), methods, options)]
    head = ["network:d", "normal", "method", "fit, s", "score, s", "to ours", "kept", "peak", "apart"]
    print("\n" + table(head, lines))


if __name__ == "__main__":
    main()
