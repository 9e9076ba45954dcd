"""Pictures that need a download, as tensors for a ProtoPNet."""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from xailab.datasets import downloaded
from xailab.images import Preprocess


def heads(split: str) -> tuple[Float[Tensor, "n 1 96 96"], Int[Tensor, "n"], Bool[Tensor, "n 96 96"]]:
    """Load the real slices of heads, their labels, and the pixels inside the boxes around tumours."""
    data, frame = downloaded.brain_mri(split), Preprocess(resize=96, crop=96).frame
    pictures, inside = [], []
    for photograph in map(data.photograph, range(len(data))):
        tumour = np.zeros_like(photograph.image)
        for box in photograph.boxes:
            tumour[box.top : box.bottom, box.left : box.right] = 255
        pictures.append(frame(photograph.image)[None, ..., 0])
        inside.append(frame(tumour)[..., 0] > 127)
    images = torch.from_numpy(np.stack(pictures)) / 255
    return images, torch.from_numpy(data.labels), torch.from_numpy(np.stack(inside))


def birds(split: str, kinds: int) -> tuple[Float[Tensor, "n 3 224 224"], Int[Tensor, "n"]]:
    """Load the paper's birds, cropped to their boxes, of the first so many kinds, and their labels."""
    data = downloaded.cub_200(split, crop=True)
    chosen = [i for i in range(len(data)) if data.labels[i] < kinds]
    square = [cv2.resize(data.photograph(i).image, (224, 224)) for i in chosen]
    return torch.from_numpy(np.stack(square)).permute(0, 3, 1, 2) / 255, torch.from_numpy(data.labels[chosen])
