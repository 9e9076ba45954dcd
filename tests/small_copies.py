"""Small copies of the downloads, in the layouts of the real ones, with rendered pictures in the photographs' place."""

import hashlib
import pickle
from pathlib import Path

import cv2
import numpy as np
import torchvision

from xailab.datasets import inspection, phantoms, scenes


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def stl10(root: Path, monkeypatch, splits: dict[str, tuple[np.ndarray, list[int]]], classes: list[str]) -> None:
    """Pictures (n, 96, 96, 3) and labels from 1; torchvision is told their MD5s."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    files = {"class_names.txt": "".join(f"{name}\n" for name in classes).encode()}
    for split, (images, labels) in splits.items():
        files[f"{split}_X.bin"] = images.transpose(0, 3, 2, 1).tobytes()  # columns first, as the source has it
        files[f"{split}_y.bin"] = bytes(labels)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for split in ("train", "test"):
        listed = [[name, _md5(files[name])] for name in (f"{split}_X.bin", f"{split}_y.bin")]
        unlabelled = [["unlabeled_X.bin", "0" * 32]] if split == "train" else []
        monkeypatch.setattr(torchvision.datasets.STL10, f"{split}_list", listed + unlabelled)


def cifar10(root: Path, monkeypatch, images: np.ndarray, labels: list[int], classes: list[str]) -> None:
    """Pictures (n, 32, 32, 3), the same in both splits."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batch = pickle.dumps({"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "labels": labels})
    meta = pickle.dumps({"label_names": classes})
    for name, data in (("data_batch_1", batch), ("test_batch", batch), ("batches.meta", meta)):
        (folder / name).write_bytes(data)
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", _md5(batch)]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", _md5(batch)]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": _md5(meta)})


def oxford_pets(root: Path, count: int) -> None:
    """Drawn cats and dogs with their outlines, in both splits."""
    base, lines = root / "oxford-iiit-pet", []
    for i in range(count):
        scene = scenes.scene(i, label=i % 2, split="test", size=240)
        name = f"{'Abyssinian' if i % 2 == 0 else 'beagle'}_{i}"
        trimap = np.where(scene.masks[0], 1, 2).astype(np.uint8)
        write(base / "images" / f"{name}.jpg", scene.image[: 240 - i])  # of several sizes
        write(base / "annotations" / "trimaps" / f"{name}.png", trimap[: 240 - i])
        lines.append(f"{name} {i % 2 + 1} {i % 2 + 1} 1\n")
    for split in ("trainval", "test"):
        (base / "annotations" / f"{split}.txt").write_text("".join(lines))


def cub_200(root: Path, kinds: int, each: int) -> None:
    """Drawn birds with their boxes, each second one to learn from."""
    base = root / "CUB_200_2011"
    lists = {name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")}
    for i in range(kinds * each):
        scene, kind = scenes.scene(i, label=scenes.CLASSES.index("bird"), size=240), i // each
        rows, columns = (np.flatnonzero(scene.masks[0].any(axis)) for axis in (1, 0))
        box = (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
        name = f"{kind + 1:03d}.Kind_{kind}/{i}.jpg"
        write(base / "images" / name, scene.image)
        for line, value in zip(lists.values(), (name, kind + 1, i % 2, " ".join(f"{v}.0" for v in box)), strict=True):
            line.append(f"{i + 1} {value}\n")
    lists["classes"] = [f"{kind + 1} {kind + 1:03d}.Kind_{kind}\n" for kind in range(kinds)]
    for name, lines in lists.items():
        (base / f"{name}.txt").write_text("".join(lines))


def hazelnut(root: Path, train: int, test: int) -> None:
    """Rendered biscuits under the name of a product of MVTec AD."""
    inspection.write(root / "mvtec_ad", ["biscuit"], n_train=train, n_test=test, progress=False)
    (root / "mvtec_ad" / "biscuit").rename(root / "mvtec_ad" / "hazelnut")


def brain_mri(root: Path, train: int, test: int) -> None:
    """Phantoms, with boxes around the lesions."""
    for folder, count, split in (("train", train, "train"), ("valid", test, "test")):
        for i in range(count):
            slice = phantoms.phantom(i, split=split, size=160)
            rows, columns = (np.flatnonzero(slice.mask.any(axis)) for axis in (1, 0))
            note = "0 0.5 0.5 0.5 0.5\n"
            if slice.mask.any():
                edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 160
                middle, size = (edges[:2] + edges[2:]) / 2, edges[2:] - edges[:2]
                note = f"1 {middle[0]} {middle[1]} {size[0]} {size[1]}\n"
            write(root / "brain_mri" / folder / "images" / f"{i:03d}.jpg", slice.image)
            labels = root / "brain_mri" / folder / "labels"
            labels.mkdir(exist_ok=True)
            (labels / f"{i:03d}.txt").write_text(note)
