"""Write a local analysis as files, under the names that the authors' programs give them.

    img/epoch-<e>/prototype-img<j>.png                          prototype j: the crop of its box
    img/epoch-<e>/prototype-img-original<j>.png                 the training image that it is from
    img/epoch-<e>/prototype-img-original_with_self_act<j>.png   the same under its own activation
    img/epoch-<e>/prototype-self-act<j>.npy                     that activation, as numbers
    img/epoch-<e>/bb<e>.npy                                     rows [training index, y1, y2, x1, x2, label]
    <i>/original_img.png                                        image i, which was explained
    <i>/top-<k>_activated_prototype.txt                         similarity, connections, and the prototype's number
    <i>/top-<k>_activated_prototype.png                         prototype-img of the k-th most similar prototype
    <i>/top-<k>_activated_prototype_in_original_pimg.png        its image with the box
    <i>/top-<k>_activated_prototype_self_act.png                its image under its own activation
    <i>/most_highly_activated_patch_by_top-<k>_prototype.png    the crop of the box in image i
    <i>/most_highly_activated_patch_in_original_img_by_top-<k>_prototype.png
    <i>/prototype_activation_map_by_top-<k>_prototype.png       image i under the activation

Ends of boxes are exclusive. An image under its activation is 0.5 of the picture and 0.3 of the colour map "jet".
"""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from xailab import storage
from xailab.images import heatmap, normalise
from xailab.protopnet.analysis import LocalAnalysis

Picture = UInt8[np.ndarray, "h w 3"]
YELLOW, LINE = (255, 255, 0), 1


def picture(image: Float[Tensor, "c h w"]) -> Picture:
    """Turn an image with pixel values from 0 to 1 into a picture; grey gets three equal channels."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).expand(3, -1, -1)
    return pixels.permute(1, 2, 0).contiguous().numpy()


def activated(image: Float[Tensor, "c h w"], large: Float[Tensor, "h w"]) -> Picture:
    """Draw a map of its size over an image, as the authors do."""
    colour = heatmap(normalise(large.detach().cpu()), "jet")
    return np.clip(0.5 * picture(image) + 0.3 * colour + 0.5, 0, 255).astype(np.uint8)


def boxed(image: Picture, box: Int[Tensor, "4"], colour: tuple[int, int, int] = YELLOW) -> Picture:
    """Draw a box into a picture, just inside its ends."""
    left, top, right, bottom = box.tolist()
    return cv2.rectangle(image.copy(), (left, top), (right - 1, bottom - 1), colour, LINE)


def cropped(image: Picture, box: Int[Tensor, "4"]) -> UInt8[np.ndarray, "_h _w 3"]:
    """Cut a box out of a picture."""
    left, top, right, bottom = box.tolist()
    return image[top:bottom, left:right]


def write(analysis: LocalAnalysis, folder: str | Path, *, epoch: int = 0) -> Path:
    """Write the files of an analysis, each as a whole or not at all.

    >>> from tempfile import TemporaryDirectory
    >>> from xailab.protopnet import local_analysis, shipped
    >>> with TemporaryDirectory() as folder:
    ...     len(list(write(local_analysis(shipped(), torch.rand(1, 1, 96, 96)), folder).glob("0/*")))
    36

    Args:
        analysis: A result of ``local_analysis``.
        folder: The folder for the files; it is made if it is not there. Other files in it stay.
        epoch: Number of the epoch, for the names of files.

    Raises:
        FileNotFoundError: if the folder above it does not exist.
    """
    folder = Path(folder)
    storage.check_folder(folder)
    prototypes = folder / "img" / f"epoch-{epoch}"
    _write_prototypes(analysis, prototypes, epoch)
    for i in range(len(analysis)):
        _write_image(analysis, i, folder / str(i))
    return folder


def bounding_boxes(analysis: LocalAnalysis) -> np.ndarray:
    """Return a row [training index, y1, y2, x1, x2, label] for each prototype."""
    origin = analysis.origin.provenance
    boxes = analysis.origin.boxes.cpu()[:, [1, 3, 0, 2]]
    return torch.cat([origin.ids[:, None], boxes, origin.labels[:, None]], 1).numpy()


def text(analysis: LocalAnalysis, i: int, rank: int) -> str:
    """Write the text of ``top-k_activated_prototype.txt`` for image i and the prototype at a rank (from 0)."""
    j, similarity = int(analysis.prototypes[i, rank]), float(analysis.similarities[i, rank])
    weights = analysis.weights[:, j].tolist()
    lines = [
        f"similarity: {similarity:.3f}",
        f"last layer connection with predicted class: {weights[int(analysis.predicted[i])]:.3f}",
        f"proto index:{j}",
        *(f"proto connection to class {k}:{weight:.4f}" for k, weight in enumerate(weights)),
    ]
    return "\n".join(lines) + "\n"


def _write_prototypes(analysis: LocalAnalysis, folder: Path, epoch: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    origin = analysis.origin
    for j, image in enumerate(origin.provenance.images):
        plain = picture(image)
        _png(folder / f"prototype-img{j}.png", cropped(plain, origin.boxes[j]))
        _png(folder / f"prototype-img-original{j}.png", plain)
        _png(folder / f"prototype-img-original_with_self_act{j}.png", activated(image, origin.large[j]))
        _npy(folder / f"prototype-self-act{j}.npy", origin.provenance.maps[j].numpy())
    _npy(folder / f"bb{epoch}.npy", bounding_boxes(analysis))


def _write_image(analysis: LocalAnalysis, i: int, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    plain, origin = picture(analysis.images[i]), analysis.origin
    _png(folder / "original_img.png", plain)
    for rank, j in enumerate(analysis.prototypes[i].tolist()):
        name, source = f"top-{rank + 1}", origin.provenance.images[j]
        _write(folder / f"{name}_activated_prototype.txt", text(analysis, i, rank).encode())
        pictures = {
            f"{name}_activated_prototype": cropped(picture(source), origin.boxes[j]),
            f"{name}_activated_prototype_in_original_pimg": boxed(picture(source), origin.boxes[j]),
            f"{name}_activated_prototype_self_act": activated(source, origin.large[j]),
            f"most_highly_activated_patch_by_{name}_prototype": cropped(plain, analysis.boxes[i, rank]),
            f"most_highly_activated_patch_in_original_img_by_{name}_prototype": boxed(plain, analysis.boxes[i, rank]),
            f"prototype_activation_map_by_{name}_prototype": activated(analysis.images[i], analysis.large[i, rank]),
        }
        for stem, drawn in pictures.items():
            _png(folder / f"{stem}.png", drawn)


def _png(path: Path, image: UInt8[np.ndarray, "_h _w 3"]) -> None:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    _write(path, data.tobytes())


def _npy(path: Path, values: np.ndarray) -> None:
    data = BytesIO()
    np.save(data, values, allow_pickle=False)
    _write(path, data.getvalue())


def _write(path: Path, data: bytes) -> None:
    with storage.atomic(path) as part:
        part.write_bytes(data)
