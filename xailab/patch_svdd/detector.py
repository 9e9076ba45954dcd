"""The detector: encoders, memory banks, anomaly maps, and a file of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab import storage
from xailab.detection.base import Source, ThresholdedDetector, batches
from xailab.detection.seen import Seen
from xailab.hooks import unwrapped
from xailab.images import Preprocess
from xailab.patch_svdd.inputs import Images, checked, mean_image, noted, to_bytes
from xailab.patch_svdd.network import COARSE, FINE, STRIDES, Embeddings, Encoder, check_strides, initial_encoder
from xailab.patch_svdd.scoring import Maps, MemoryBank, NearestPatches, Search, Subset, as_rows, to_pixels
from xailab.patch_svdd.settings import COURSE, Settings, check_dimensions
from xailab.patch_svdd.training import OnStep, Step, Trainer, below

SIZES = {"fine": FINE, "coarse": COARSE}


class PatchSVDD(ThresholdedDetector):
    """Detect anomalies by Patch SVDD (Yi and Yoon, ACCV 2020, arXiv 2006.16067).

    ``PatchSVDD().fit(normal).fill_memory_bank(normal).anomaly_maps(images)``. Images are float tensors with
    values from 0 to 1, all of one size of at least 64 x 64 pixels; ``preprocess`` makes them of pictures.

    >>> normal = torch.randint(256, (2, 3, 64, 64)) / 255
    >>> detector = PatchSVDD(8).fill_memory_bank(normal, progress=False)
    >>> detector.anomaly_maps(normal).amax((1, 2))  # each patch is its own nearest neighbour
    tensor([0., 0.])

    Args:
        dimensions: Number of values in an embedding.
        strides: Pixels from one scored patch to the next, fine (32 x 32) and coarse (64 x 64); even numbers. The
            paper's are (4, 16). Twice the fine stride takes a sixteenth of the search.
        kind: Which anomaly map to score: "fine", "coarse", "sum" or "product", the paper's. A threshold belongs to one
            kind, and is dropped when ``kind`` is set to another.
        seed: Seed of the initial weights, and of all random choices.

    Attributes:
        preprocess: How it takes its pictures: 256 pixels, values from 0 to 1.
        encoder: The encoders of both patch sizes.
        mean: The mean of the normal images, which is subtracted from every image; None before there are any.
        history: The measurements of each training step.
        memory_banks: Embeddings of normal patches, by "fine" and "coarse"; None before ``fill_memory_bank``.
        threshold: Score above which an image is called anomalous; None before ``calibrate``. Its unit is that of the
            map: a distance in the space of embeddings, and for "product" the product of two.

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
        check_dimensions(dimensions)
        self.dimensions, self.strides, self._kind, self.seed = dimensions, tuple(strides), kind, seed
        self.encoder = initial_encoder(dimensions, seed).eval().requires_grad_(False)
        self.mean: Float[Tensor, "3 h w"] | None = None
        self.history: list[Step] = []
        self._forget()

    @property
    def encoder(self) -> Encoder:
        """The encoders of both patch sizes, without wrappers such as ``DataParallel``."""
        return self._encoder

    @encoder.setter
    def encoder(self, encoder: nn.Module) -> None:
        inside = unwrapped(encoder)
        if not isinstance(inside, Encoder):
            raise TypeError(f"expected an Encoder of patches, got {type(inside).__name__}")
        self._encoder = inside

    @property
    def kind(self) -> str:
        """Which anomaly map is scored."""
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
        """Train the encoders on normal images from random weights, and empty the memory banks.

        The images are kept in memory as bytes. If training is interrupted, the weights of the last step stay.

        Args:
            images: A tensor of them, a data set made with ``preprocess=``, or batches, as a ``DataLoader`` makes them
                (see ``detection.batches``).
            settings: How to train: ``COURSE``, ``PAPER``, or ``Settings`` of your own. Dimensions and seed are the
                detector's.
            steps: Number of steps; the authors take about 470 for each image.
            checkpoint: A file to resume from, if it exists, and to write the state to. The weights come out the same
                as without an interruption.
            every: Steps from one checkpoint to the next.
            progress: Show a progress bar.
            on_step: A function of the step's number and measurements, called after every step; to draw losses, say.
            **changes: Settings to change: batch, lr, lambda_, objective, frozen.

        Returns:
            The detector itself.

        Raises:
            ValueError: if the images cannot be used, an option is out of its range, a checkpoint is damaged or of
                another training, or a loss becomes infinite.
            FileNotFoundError: if the checkpoint's folder does not exist.

        Warns:
            Collapse: if the embeddings draw together in one point.
        """
        if steps < 0 or every < 1:
            raise ValueError(f"steps={steps}, every={every}: expected a number of steps, and from 1")
        settings = replace(settings, **changes, dimensions=self.dimensions, seed=self.seed)
        normal = to_bytes(batches(images, "reading", progress=progress))
        mean = mean_image(normal)
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
        """Fill both memory banks, fine and coarse, with the patches of normal images; old contents are replaced.

        Without ``fit``, the encoders are random, and the mean is that of these images.

        Args:
            images: As for ``fit``.
            keep: Share of the patches to keep, above 0 and at most 1: memory and the time of a search shrink with it.
            subset: Which patches to keep: "random" ones, or a "coreset", which leaves none far off (see
                ``greedy_coreset``).
            search: "exact", or "faiss" for an approximate index (needs faiss-cpu).
            progress: Show progress bars.

        Returns:
            The detector itself.

        Raises:
            ValueError: if the images cannot be used, or an option is out of its range.
            ImportError: if faiss is asked for and not installed.
        """
        check_memory(keep, subset, search)
        seen, generator = Seen(), torch.Generator().manual_seed(self.seed)
        source = noted(batches(images, "memory banks", progress=progress), seen)
        if self.mean is None:
            normal = to_bytes(source)
            self.mean, source = mean_image(normal).to(self._device), (part / 255 for part in normal.split(16))
        parts: dict[str, list[MemoryBank]] = {name: [] for name in SIZES}
        count = 0
        for batch in source:
            for (name, patch), stride, embeddings in zip(SIZES.items(), self.strides, self.embed(batch), strict=True):
                parts[name].append(MemoryBank.of(embeddings, batch.shape[2:], patch, stride, first=count))
            count += len(batch)
        if not count:
            raise ValueError("there are no images for the memory banks")
        banks = {}
        for name in SIZES:
            bank = MemoryBank.joined(parts.pop(name)).subsample(keep, subset, generator, progress)
            banks[name] = bank.indexed(self.seed) if search == "faiss" else bank
        self.memory_banks, self.search, self.threshold, self._seen = banks, search, None, seen
        return self

    def embed(self, images: Images) -> Embeddings:
        """Embed the patches of images, at their places.

        Raises:
            ValueError: if the images cannot be used, or there is no mean image yet.
            TypeError: if they are no floating-point tensor.
        """
        mean = self.mean
        if mean is None:
            raise ValueError("this detector has seen no normal images: call fit, or fill_memory_bank, first")
        checked(images)
        if images.shape[1:] != mean.shape:
            wanted, got = (f"{shape[1]} x {shape[2]}" for shape in (mean.shape, images.shape[1:]))
            raise ValueError(
                f"the images have {got} pixels, those it learned from {wanted}: resize or crop all to one size"
            )
        with _exact():
            # One at a time: a batch of convolutions may be summed in another order, and an image in the memory banks
            # would then not be at distance 0 from itself. At 256 pixels, a batch takes a processor as long.
            parts = [self.encoder.dense(image.to(mean) - mean, self.strides) for image in images.split(1)]
            return Embeddings(*(torch.cat(every) for every in zip(*parts, strict=True)))

    def nearest_patches(self, images: Images) -> dict[str, NearestPatches]:
        """Find the nearest normal patch of every patch of some images.

        Returns:
            By "fine" and "coarse": distances (n, rows, columns) and places (n, rows, columns, 3).

        Raises:
            ValueError: if the memory banks are empty, or as ``embed`` does.
        """
        if self.memory_banks is None:
            raise ValueError("the memory banks are empty: call fill_memory_bank with normal images first")
        found = {}
        for name, embeddings in self.embed(images)._asdict().items():
            with _exact():
                distances, places = self.memory_banks[name].nearest_patches(as_rows(embeddings))
            grid = (len(embeddings), *embeddings.shape[2:])
            found[name] = NearestPatches(distances.view(grid), places.view(*grid, 3))
        return found

    def anomaly_maps(self, images: Images) -> Float[Tensor, "n height width"]:
        """Compute the anomaly map of the detector's ``kind``, one value a pixel, at the images' size.

        Raises:
            ValueError, TypeError: as ``nearest`` and ``embed`` do.
        """
        return getattr(self.all_maps(images), self.kind)

    def all_maps(self, images: Images) -> Maps:
        """Compute all four anomaly maps: fine, coarse, their sum and their product.

        An image's maps do not depend on the other images of the batch.

        Raises:
            ValueError, TypeError: as ``nearest`` and ``embed`` do.
        """
        found = self.nearest_patches(images)
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
        if self.memory_banks is not None:
            self.memory_banks = {name: bank.to(device) for name, bank in self.memory_banks.items()}
        return self

    def save(self, path: str | Path, *, memory_banks: bool = True, half: bool = False) -> None:
        """Write the detector to one safetensors file, as a whole or not at all.

        Args:
            path: The file.
            memory_banks: Write the memory banks too. They are almost all of the file, and ``fill_memory_bank`` makes
                them again.
            half: Write the encoders and the mean image in half precision, to ship them; without banks only, as these
                would no longer be what the encoders make of the normal images.

        Raises:
            FileNotFoundError: if there is no such folder.
            ValueError: if banks are to be written beside encoders in half precision.
        """
        if half and memory_banks:
            raise ValueError(
                "half=True writes no memory banks: add memory_banks=False, and call fill_memory_bank after loading"
            )
        description = {"search": self.search, "threshold": self.threshold if memory_banks else None}
        tensors = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        if self.mean is not None:
            tensors["mean"] = self.mean
        if half:
            tensors = {name: tensor.half() for name, tensor in tensors.items()}
        tensors["history"] = Step.to_tensor(self.history)
        for name, bank in (self.memory_banks or {}).items() if memory_banks else ():
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
        """Restore the state of a file, or raise any error that shows that it cannot be."""
        self.encoder.load_state_dict(below("encoder.", tensors))
        self.history = Step.from_tensor(tensors["history"])
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
            faiss = self.search == "faiss"
            self.memory_banks = {name: bank.indexed(self.seed) if faiss else bank for name, bank in banks.items()}

    def _forget(self) -> None:
        super()._forget()
        self.memory_banks: dict[str, MemoryBank] | None = None
        self.search: Search = "exact"

    @property
    def _device(self) -> torch.device:
        return self.encoder.conv1.weight.device


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


@contextmanager
def _exact() -> Iterator[None]:
    """Switch gradients, ``inference_mode`` and autocast off, whatever surrounds the call."""
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.no_grad()):
            stack.enter_context(context)
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield
