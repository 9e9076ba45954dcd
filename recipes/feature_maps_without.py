"""Train the same small network with and without ReLUs and poolings, and record how many unseen scenes it names.

    python recipes/feature_maps_without.py

Taking layers out of a trained network shows that it needs them. This shows what a network can do that never had them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xailab.datasets import scenes

TABLE = Path(__file__).parents[1] / "xailab" / "lessons" / "feature_maps" / "trained_without.json"
BETWEEN: dict[str, Callable[[], list[nn.Module]]] = {
    "convolutions alone": list,
    "with ReLU": lambda: [nn.ReLU()],
    "with mean pooling": lambda: [nn.AvgPool2d(2)],
    "with max pooling": lambda: [nn.MaxPool2d(2)],
    "with ReLU and max pooling": lambda: [nn.ReLU(), nn.MaxPool2d(2)],
}


def build(between: Callable[[], list[nn.Module]]) -> nn.Sequential:
    """Build three convolutions with some layers after each, and a linear classifier of 3 x 3 means."""
    layers: list[nn.Module] = []
    channels = 3
    for wider in (8, 16, 32):
        layers += [nn.Conv2d(channels, wider, 3, padding=1), *between()]
        channels = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(9 * channels, len(scenes.CLASSES)))


def render(split: str, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Render scenes with one object as values from -1 to 1, and their classes."""
    drawn = [scenes.scene(i, split=split, size=size) for i in range(count)]
    pixels = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in drawn])
    return pixels / 127.5 - 1, torch.tensor([scene.labels[0] for scene in drawn])


def main() -> None:
    """Train each network with each seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--unseen", type=int, default=500)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    pixels, labels = render("train", args.pictures, args.size)
    unseen, truth = render("test", args.unseen, args.size)
    table = {"recipe": "python recipes/feature_maps_without.py", **vars(args), "rows": []}
    for seed in range(args.seeds):
        for name, between in BETWEEN.items():
            torch.manual_seed(seed)
            network = build(between)
            optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
            for _ in range(args.epochs):
                for some in torch.randperm(len(pixels)).split(50):
                    optimizer.zero_grad()
                    F.cross_entropy(network(pixels[some]), labels[some]).backward()
                    optimizer.step()
            with torch.no_grad():
                seen, right = (
                    float((network(x).argmax(1) == y).float().mean()) for x, y in ((pixels, labels), (unseen, truth))
                )
            table["rows"].append({"between": name, "seed": seed, "seen": round(seen, 4), "unseen": round(right, 4)})
            print(table["rows"][-1], flush=True)
            TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
