"""The detector: what is learned, the memory banks, maps, a file."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from xailab import storage
from xailab.detection.base import Source, ThresholdedDetector, batches
from xailab.detection.seen import Seen
from xailab.hooks import unwrapped
from xailab.images import Preprocess
from xailab.patch_svdd.network import (
    COARSE,
    FINE,
    STRIDES,
    Embeddings,
    Encoder,
    check_size,
    check_strides,
    initial_encoder,
    starts,
)
from xailab.patch_svdd.scoring import Maps, MemoryBank, Nearest, Search, Subset, to_pixels
from xailab.patch_svdd.training import COURSE, OnStep, Settings, Step, Trainer
from xailab.targets import check_images

Images = Float[Tensor, "n 3 height width"]
SIZES = {"fine": FINE, "coarse": COARSE}
NORMALISED = 0.01  # pixel values may leave [0, 1] by so much


class PatchSVDD(ThresholdedDetector):
    """Patch SVDD (Yi and Yoon, ACCV 2020, arXiv 2006.16067).

    ``PatchSVDD().fit(normal).fill_memory_bank(normal).anomaly_maps(images)``. Images are float tensors with
    values from 0 to 1, all of one size of at least 64 x 64 pixels; ``preprocess`` makes them of pictures.

    Args:
        dimensions: Of the embeddings.
        strides: Pixels from one scored patch to the next, fine (32 x 32) and coarse (64 x 64); even numbers. The
            paper's (4, 16). Twice the fine stride takes a sixteenth of the search.
        kind: Of the anomaly maps: "fine", "coarse", "sum" or "product", the paper's. A threshold belongs to one kind,
            and goes when ``kind`` is set to another.
        seed: Of the initial weights and of all that is drawn.

    Attributes:
        preprocess: How it wants its pictures: 256 pixels, values from 0 to 1.
        encoder: Both encoders.
        mean: The mean of the normal images, which is subtracted from every image; None before there are any.
        history: What each step of the training measured.
        banks: Embeddings of normal patches, by "fine" and "coarse"; None before ``fill_memory_bank``.
        threshold: Score above which an image is called anomalous; None before ``calibrate``.

    Raises:
        ValueError: if an option is out of its range.
    """

    _KIND = "Patch SVDD detector"
    _OPTIONS = ("dimensions", "strides", "kind", "seed")
    _SEEN = "in the memory banks, where each patch is its own nearest"

    preprocess = Preprocess(resize=256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(
        self, dimensions: int = 64, *, strides: Sequence[int] = STRIDES, kind: str = "product", seed: int = 0
    ) -> None:
        check_strides(strides)
        check_kind(kind)
        Settings(dimensions=dimensions)
        self.dimensions, self.strides, self._kind, self.seed = dimensions, tuple(strides), kind, seed
        self.encoder = initial_encoder(dimensions, seed).eval().requires_grad_(False)
        self.mean: Float[Tensor, "3 h w"] | None = None
        self.history: list[Step] = []
        self._forget()

    @property
    def encoder(self) -> Encoder:
        """Both encoders, without what they are wrapped in."""
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: nn.Module) -> None:
        self._encoder = unwrapped(encoder)

    @property
    def kind(self) -> str:
        """Of the anomaly maps."""
        return self._kind

    @kind.setter
    def kind(self, kind: str) -> None:
        check_kind(kind)
        if kind != self._kind:
            self._kind, self.threshold = kind, None

    def fit(
        self,
        images: Source,
        settings: Settings = COURSE,
        *,
        steps: int = 200,
        checkpoint: str | Path | None = None,
        every: int = 100,
        progress: bool = True,
        on_step: OnStep | None = None,
        **changes,
    ) -> "PatchSVDD":
        """Train the encoders on normal images, from the start, and forget what was learned before.

        The images are kept in memory as bytes. If it is interrupted, what was learned until then stays.

        Args:
            images: A tensor of them, a data set made with ``preprocess=``, or batches, as a ``DataLoader`` makes them
                (see ``detection.batches``).
            settings: How to train: ``COURSE``, ``PAPER``, or ``Settings`` of your own. Dimensions and seed are the
                detector's.
            steps: How many; the authors take about 470 for each image.
            checkpoint: A file from which to go on, if it is there, and to which the state is written. The weights come
                out the same as without an interruption.
            every: Steps from one checkpoint to the next.
            progress: Show a progress bar.
            on_step: Called after every step with its number and what it measured; draws loss pictures, say.
            **changes: What shall be other than in ``settings``: batch, lr, lambda_, objective, frozen.

        Returns:
            The detector itself.

        Raises:
            ValueError: if the images cannot be used, an option is out of its range, a checkpoint is damaged or of
                another training, or a loss becomes infinite.
            FileNotFoundError: if the checkpoint's folder is not there.

        Warns:
            Collapse: if the embeddings draw together.
        """
        if steps < 0 or every < 1:
            raise ValueError(f"steps={steps}, every={every}: expected a number of steps, and from 1")
        settings = replace(settings, **changes, dimensions=self.dimensions, seed=self.seed)
        normal = _as_bytes(batches(images, "reading", progress=progress))
        mean = _mean(normal)
        trainer = Trainer(settings, normal, mean, self._device)
        self.encoder, self.mean, self.history = trainer.encoder, mean.to(self._device), trainer.history
        self._forget()
        try:
            trainer.run(steps, checkpoint=checkpoint, every=every, progress=progress, on_step=on_step)
        finally:
            self.history = trainer.history
            self.encoder.eval().requires_grad_(False)
            self.encoder.zero_grad(set_to_none=True)
        return self

    def fill_memory_bank(
        self,
        images: Source,
        *,
        keep: float = 1.0,
        subset: Subset = "random",
        search: Search = "exact",
        progress: bool = True,
    ) -> "PatchSVDD":
        """Fill the memory banks, fine and coarse, with the patches of normal images, in place of what they held.

        Of a detector that was not fitted, the encoders are random, and the mean is that of these images.

        Args:
            images: As for ``fit``.
            keep: Share of the patches to keep, above 0 and at most 1: memory and the time of a search shrink with it.
            subset: Which: "random" ones, or a "coreset", which leaves none far off (see ``greedy_coreset``).
            search: "exact", or "faiss" for an approximate index (needs faiss-cpu).
            progress: Show progress bars.

        Returns:
            The detector itself.

        Raises:
            ValueError: if the images cannot be used, or an option is out of its range.
            ImportError: if faiss is asked for and not there.
        """
        check_memory(keep, subset, search)
        seen = Seen()
        source = _noted(batches(images, "memory banks", progress=progress), seen)
        if self.mean is None:
            normal = _as_bytes(source)
            self.mean, source = _mean(normal).to(self._device), (part / 255 for part in normal.split(16))
        found: dict[str, list[MemoryBank]] = {name: [] for name in SIZES}
        count = 0
        for batch in source:
            for name, embeddings in self.embed(batch)._asdict().items():
                found[name].append(MemoryBank(_rows(embeddings), self._places(name, count, len(batch))))
            count += len(batch)
        if not count:
            raise ValueError("there are no images for the memory banks")
        generator = torch.Generator().manual_seed(self.seed)
        banks = {}
        for name, parts in found.items():
            bank = MemoryBank(torch.cat([part.vectors for part in parts]), torch.cat([part.places for part in parts]))
            parts.clear()
            bank = bank.subsample(keep, subset, generator, progress)
            banks[name] = bank.indexed(self.seed) if search == "faiss" else bank
        self.banks, self.search, self.threshold, self._seen = banks, search, None, seen
        return self

    def embed(self, images: Images) -> Embeddings:
        """Embed the patches of images, at their places.

        Each image goes through the encoders alone, so that its embeddings are the same to the last bit whatever else
        is in the batch: convolutions of several images at once may be computed in another order.

        Raises:
            ValueError: if the images cannot be used, or there is no mean image yet.
            TypeError: if they are no floating-point tensor.
        """
        if self.mean is None:
            raise ValueError("this detector has seen no normal images: call fit, or fill_memory_bank, first")
        images = _checked(images)
        if images.shape[1:] != self.mean.shape:
            wanted, got = ("{1} x {2}".format(*shape) for shape in (self.mean.shape, images.shape[1:]))
            raise ValueError(
                f"the images have {got} pixels, those it learned from {wanted}: resize or crop all to one size"
            )
        with _exact():
            parts = [self.encoder.dense(image.to(self.mean) - self.mean, self.strides) for image in images.split(1)]
            return Embeddings(*(torch.cat(every) for every in zip(*parts, strict=True)))

    def nearest(self, images: Images) -> dict[str, Nearest]:
        """Find the nearest normal patch of every patch of some images.

        Returns:
            By "fine" and "coarse", distances (n, rows, columns) and places (n, rows, columns, 3).

        Raises:
            ValueError: if the memory banks are empty, or as ``embed`` does.
        """
        if self.banks is None:
            raise ValueError("the memory banks are empty: call fill_memory_bank with normal images first")
        found = {}
        for name, embeddings in self.embed(images)._asdict().items():
            with _exact():
                distances, places = self.banks[name].nearest(_rows(embeddings))
            grid = (len(embeddings), *embeddings.shape[2:])
            found[name] = Nearest(distances.view(grid), places.view(*grid, 3))
        return found

    def anomaly_maps(self, images: Images) -> Float[Tensor, "n height width"]:
        """Score every pixel, at the images' size, by the map of the detector's ``kind``.

        Raises:
            ValueError, TypeError: as ``nearest`` and ``embed`` do.
        """
        return getattr(self.all_maps(images), self.kind)

    def all_maps(self, images: Images) -> Maps:
        """Score every pixel by each kind of map: fine, coarse, their sum and their product.

        An image's maps do not depend on the other images of the batch.

        Raises:
            ValueError, TypeError: as ``nearest`` and ``embed`` do.
        """
        found = self.nearest(images)
        with _exact():
            fine, coarse = (
                to_pixels(found[name].distances, images.shape[2:], patch, stride)
                for (name, patch), stride in zip(SIZES.items(), self.strides, strict=True)
            )
            return Maps(fine, coarse, fine + coarse, fine * coarse)

    @torch.inference_mode(False)
    def to(self, device: torch.device | str) -> "PatchSVDD":
        """Move the detector to a device; returns itself."""
        self.encoder.to(device)
        self.mean = None if self.mean is None else self.mean.to(device)
        if self.banks is not None:
            self.banks = {name: bank.to(device) for name, bank in self.banks.items()}
        return self

    def save(self, path: str | Path, *, banks: bool = True, half: bool = False) -> None:
        """Write the detector to one safetensors file, as a whole or not at all.

        Args:
            path: The file.
            banks: Write the memory banks too. They make almost all of the file, and ``fill_memory_bank`` makes them
                again.
            half: Write the encoders and the mean image in half precision, to ship them; without banks only, as these
                would no longer be what the encoders make of the normal images.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if banks are to be written beside encoders in half precision.
        """
        if half and banks:
            raise ValueError(
                "half=True writes no memory banks: add banks=False, and call fill_memory_bank after loading"
            )
        description = {"search": self.search, "threshold": self.threshold if banks else None}
        tensors = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        if self.mean is not None:
            tensors["mean"] = self.mean
        if half:
            tensors = {name: tensor.half() for name, tensor in tensors.items()}
        tensors["history"] = torch.tensor(self.history, dtype=torch.float64).view(len(self.history), len(Step._fields))
        for name, bank in (self.banks or {}).items() if banks else ():
            tensors |= {f"{name}.vectors": bank.vectors, f"{name}.places": bank.places, "seen": self._seen.prints}
        self._write(path, description, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "PatchSVDD":
        """Read a detector that ``save`` wrote; it gives the same maps.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged or something else.
            ImportError: if it has an approximate index, and faiss is not there.
        """
        return cls._restored(path, *storage.read(path, cls._KIND))

    def _restore(self, description: dict, tensors: dict[str, Tensor]) -> None:
        """Take over what a file says, or raise whatever shows that it cannot be."""
        weights = {name.removeprefix("encoder."): x for name, x in tensors.items() if name.startswith("encoder.")}
        self.encoder.load_state_dict(weights)
        self.history = [Step(*row) for row in tensors["history"].tolist()]
        if "mean" in tensors:
            self.mean = tensors["mean"].float()
            if self.mean.ndim != 3 or len(self.mean) != 3:
                raise ValueError(f"a mean image of shape {tuple(self.mean.shape)}")
        if any(f"{name}.vectors" in tensors for name in SIZES):
            banks = {name: MemoryBank(tensors[f"{name}.vectors"], tensors[f"{name}.places"]) for name in SIZES}
            for bank in banks.values():
                if bank.vectors.shape[1:] != (self.dimensions,) or bank.places.shape != (len(bank.vectors), 3):
                    raise ValueError(f"a bank of {tuple(bank.vectors.shape)} with places {tuple(bank.places.shape)}")
            self.search = description["search"]
            self.banks = {n: b.indexed(self.seed) for n, b in banks.items()} if self.search == "faiss" else banks

    def _forget(self) -> None:
        super()._forget()
        self.banks: dict[str, MemoryBank] | None = None
        self.search: Search = "exact"

    @property
    def _device(self) -> torch.device:
        return self.encoder.conv1.weight.device

    def _places(self, name: str, first: int, n: int) -> Tensor:
        """Image, row and column of each patch of n images, in the order of ``_rows``."""
        stride = self.strides[list(SIZES).index(name)]
        rows, columns = (torch.tensor(starts(side, SIZES[name], stride)) for side in self.mean.shape[1:])
        places = torch.cartesian_prod(torch.arange(first, first + n), rows, columns)
        return places.to(self._device, torch.int32)


def check_kind(kind: str) -> None:
    """Raise ValueError unless there is such a map."""
    if kind not in Maps._fields:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(map(repr, Maps._fields))}")


def check_memory(keep: float, subset: str, search: str) -> None:
    """Raise ValueError if an option of ``fill_memory_bank`` is out of its range."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep}: expected a share above 0 and at most 1")
    for name, value, choices in (("subset", subset, Subset), ("search", search, Search)):
        if value not in get_args(choices):
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, get_args(choices)))}")


def _noted(batches: Iterable[Images], seen: Seen) -> Iterator[Images]:
    """The same batches, whose pictures are known from then on."""
    for batch in batches:
        seen.add(_checked(batch))
        yield batch


def _checked(images: Images) -> Images:
    """Images that the encoders can see; raises ValueError or TypeError."""
    check_images(images)
    if images.shape[1] != 3 or not len(images):
        raise ValueError(f"expected images (n, 3, height, width), n from 1, got {tuple(images.shape)}")
    check_size(images.shape[2:])
    low, high = images.aminmax()
    if not (low >= -NORMALISED and high <= 1 + NORMALISED):  # NaN lies nowhere
        raise ValueError(
            f"pixel values go from {low.item():.3g} to {high.item():.3g}, expected 0 to 1: preprocess pictures with "
            "PatchSVDD.preprocess, without another network's mean and std"
        )
    return images


def _as_bytes(batches: Iterable[Images]) -> UInt8[Tensor, "n 3 h w"]:
    """All images at 8 bits a value, a quarter of their size as floats."""
    parts: list[Tensor] = []
    for batch in batches:
        batch = _checked(batch)
        if parts and batch.shape[1:] != parts[0].shape[1:]:
            raise ValueError(
                f"images of {batch.shape[2]} x {batch.shape[3]} and {parts[0].shape[2]} x {parts[0].shape[3]} pixels: "
                "resize or crop all to one size"
            )
        parts.append((batch.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8))
    if not parts:
        raise ValueError("there are no images to learn from")
    return torch.cat(parts)


def _mean(images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "3 h w"]:
    total = sum(part.sum(0, dtype=torch.int64) for part in images.split(64))
    return (total.double() / (255 * len(images))).float()


def _rows(embeddings: Float[Tensor, "n d i j"]) -> Float[Tensor, "m d"]:
    """Embeddings as rows, the images one after another."""
    return embeddings.permute(0, 2, 3, 1).flatten(0, 2)


@contextmanager
def _exact() -> Iterator[None]:
    """No graph, no tensors of ``inference_mode``, and full precision, whatever surrounds the call."""
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.no_grad()):
            stack.enter_context(context)
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield
