"""Patch SVDD's scoring: all patches in one pass beside patch by patch, and ways to find the nearest normal patch.

Last, what it costs in accuracy to search through fewer patches, or not exactly.

    python benchmarks/patch_svdd.py

README.md in this folder says what the columns mean.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import torch
from report import machine, peak_memory, seconds, table
from torch import Tensor
from tqdm import tqdm

from xailab.datasets import inspection
from xailab.detection import evaluate
from xailab.images import Preprocess
from xailab.patch_svdd import PatchSVDD, shipped
from xailab.patch_svdd.network import COARSE, FINE, STRIDES, Embeddings, Encoder, starts
from xailab.patch_svdd.scoring import nearest_neighbours
from xailab.patch_svdd.shipped import manifest

CATEGORY = "capsule"
AT_ONCE = 256  # patches in a batch, patch by patch
Search = Callable[[Tensor], Tensor]  # queries to distances


def patch_by_patch(encoder: Encoder, image: Tensor) -> Embeddings:
    """As the authors do: cut out every patch, and encode the patches in batches."""
    found = []
    for patch, stride in zip((FINE, COARSE), STRIDES, strict=True):
        rows, columns = (starts(side, patch, stride) for side in image.shape[1:])
        patches = torch.stack([image[:, r : r + patch, c : c + patch] for r in rows for c in columns])
        none = patches.new_empty(0, 3, FINE + COARSE - patch, FINE + COARSE - patch)
        parts = [
            encoder.patches(part, none)[0] if patch == FINE else encoder.patches(none, part)[1]
            for part in patches.split(AT_ONCE)
        ]
        found.append(torch.cat(parts).view(len(rows), len(columns), -1).permute(2, 0, 1)[None])
    return Embeddings(*found)


def embedding_rows(encoder: Encoder, images: Tensor, repeats: int) -> list[list[str]]:
    """Time and memory of both ways, an image at a time."""
    methods = {
        "xailab, dense": lambda image: encoder.dense(image[None]),
        "patch by patch": lambda image: patch_by_patch(encoder, image),
    }
    found, lines = {}, []
    with torch.inference_mode():
        for name, method in methods.items():
            method(images[0])  # warms up
            times = [seconds(lambda method=method: [method(image) for image in images]) for _ in range(repeats)]
            result, peak = peak_memory(lambda method=method: method(images[0]))
            found[name] = (min(times) / len(images), peak, result)
    mine = found["xailab, dense"]
    for name, (time, peak, result) in found.items():
        apart = max(float((a - b).abs().max()) for a, b in zip(result, mine[2], strict=True))
        times = [f"{1000 * time:.0f}", f"{time / mine[0]:.1f}"]
        lines.append([name, *times, f"{peak / 2**20:.0f} MiB", "" if result is mine[2] else f"{apart:.0e}"])
    return lines


# Each takes the normal patches and gives a search, which is what is timed apart.


def ours(bank: Tensor) -> Search:
    """Blocked matrix products."""
    return lambda queries: nearest_neighbours(queries, bank)[0]


def all_distances(bank: Tensor) -> Search:
    """torch.cdist, all distances at once."""
    return lambda queries: torch.cdist(queries, bank).amin(1)


def kd_tree(bank: Tensor) -> Search:
    """scikit-learn's, as the authors use it."""
    from sklearn.neighbors import KDTree

    tree = KDTree(bank.numpy())
    return lambda queries: torch.from_numpy(tree.query(queries.numpy())[0][:, 0]).float()


def faiss_flat(bank: Tensor) -> Search:
    """faiss's exact search."""
    import faiss

    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(bank.numpy())
    return lambda queries: torch.from_numpy(index.search(queries.numpy(), 1)[0][:, 0]).clamp(min=0).sqrt()


SEARCHES = {"xailab": ours, "faiss flat": faiss_flat, "torch.cdist": all_distances, "scikit-learn KD-tree": kd_tree}
SLOW = {"scikit-learn KD-tree"}  # measured with a tenth of the queries


def search_rows(bank: Tensor, queries: Tensor, names: Sequence[str], repeats: int) -> list[list[str]]:
    """Time and memory of each search, and how far its distances are from those of double precision."""
    lines, mine = [], None
    some = queries[:: max(1, len(queries) // 50)]
    exact = torch.stack([(bank.double() - query).norm(dim=1).min() for query in some.double()])
    for name in tqdm(names, "searches", leave=False):
        asked = queries[::10] if name in SLOW else queries
        try:
            search, built = peak_memory(lambda name=name: SEARCHES[name](bank))
        except ImportError as error:
            lines.append([name, f"left out: {error}", "", "", ""])
            continue
        time = min(seconds(lambda search=search, asked=asked: search(asked)) for _ in range(repeats)) / len(asked)
        mine = mine or time
        _, peak = peak_memory(lambda search=search, asked=asked: search(asked))
        apart = float((search(some) - exact).abs().max() / exact.max())
        lines.append(
            [name, f"{1e6 * time:.0f}", f"{time / mine:.1f}", f"{max(built, peak) / 2**20:.0f} MiB", f"{apart:.0e}"]
        )
    return lines


OPTIONS = {  # of the memory banks
    "all, exact": {},
    "a tenth at random": {"keep": 0.1},
    "a tenth, coreset": {"keep": 0.1, "subset": "coreset"},
    "all, faiss's inverted file": {"search": "faiss"},
}


def accuracy_rows(categories: Sequence[str], count: int) -> list[list[str]]:
    """Pixel AUROC of the product map with the shipped encoders, for each way to fill the memory banks."""
    lines = []
    for category in categories:
        size = manifest()[category]["size"]
        preprocess = Preprocess(resize=size, mean=(0.0,) * 3, std=(1.0,) * 3)
        normal, test = (inspection.Inspection(category, s, n=count, preprocess=preprocess) for s in ("train", "test"))
        for name, options in tqdm(OPTIONS.items(), category, leave=False):
            try:
                detector = shipped(category).fill_memory_bank(normal, **options, progress=False)
            except ImportError as error:
                lines.append([category, name, f"left out: {error}", ""])
                continue
            found = evaluate(detector, test)
            lines.append([category, name, str(len(detector.memory_banks["fine"].vectors)), f"{found.pixel_auroc:.3f}"])
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="of the pictures, in pixels")
    parser.add_argument("--images", type=int, default=3, help="that are embedded both ways")
    parser.add_argument("--normal", type=int, default=50, help="pictures in the bank")
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), metavar="NAME")
    parser.add_argument("--categories", nargs="*", choices=manifest(), default=list(manifest()), metavar="NAME")
    parser.add_argument("--pictures", type=int, default=60, help="normal ones and test ones, for the accuracy")
    parser.add_argument("--repeats", type=int, default=3, help="the quickest counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(machine())

    detector = PatchSVDD()
    normal, test = (
        torch.from_numpy(
            np.stack([inspection.sample(CATEGORY, i, split=split, size=options.size).image for i in range(count)])
        )
        .permute(0, 3, 1, 2)
        .div(255)
        for split, count in (("train", options.normal), ("test", options.images))
    )
    detector.fill_memory_bank(normal, progress=False)
    head = ["embedding", "ms an image", "to ours", "peak", "apart"]
    print("\n" + table(head, embedding_rows(detector.encoder, test - detector.mean, options.repeats)))

    bank = detector.memory_banks["fine"].vectors
    queries = detector.embed(test[:1]).fine[0].flatten(1).mT.contiguous()
    print(f"\n{len(queries)} patches of one picture, {len(bank)} normal patches of {options.normal}\n")
    head = ["search", "us a patch", "to ours", "peak", "apart"]
    print(table(head, search_rows(bank, queries, options.searches, options.repeats)))

    head = ["encoders", "memory banks", "fine patches", "pixel AUROC"]
    print("\n" + table(head, accuracy_rows(options.categories, options.pictures)))


if __name__ == "__main__":
    main()
