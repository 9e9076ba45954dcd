r"""The losses of Patch SVDD, and the training that minimises them.

With embeddings h and h' of two patches, the encoders are trained to make small

    L_SVDD' = mean |h - h'|                       patches a pixel or two apart (equation 4)
    L_SSL   = mean cross-entropy(C(h - h'), y)    patches side by side, in direction y (equation 5)
    L       = lambda L_SVDD' + L_SSL              summed over both sizes (equation 6)

(Yi and Yoon 2020, arXiv 2006.16067). L_SVDD' is the mean distance, as in the authors' code; the paper has its square.
Two other objectives are there to compare with: "neighbours" is L_SVDD' alone, and "centre" is what Deep SVDD does to
patches (equation 2; Ruff et al., ICML 2018): L_SVDD = mean |h - c| with one centre c, the mean at the start.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from xailab import storage
from xailab.patch_svdd.network import COARSE, FINE, PositionClassifier, initial_encoder, seeded
from xailab.patch_svdd.sampling import close_pairs, crop, jittered, position_pairs
from xailab.patch_svdd.settings import Settings

OnStep = Callable[[int, "Step"], object]

KIND = "Patch SVDD checkpoint"  # as files say
SIZES = (COARSE, FINE)
LOSSES = ("position_64", "position_32", "svdd_64", "svdd_32")
WINDOW = 20  # steps over which the spread is averaged
COLLAPSED = 0.02  # share of its first value to which the spread may fall without a warning
CENTRE_OF = 256  # patches whose mean is the centre


class Collapse(UserWarning):
    """The embeddings of all patches draw together in one point, so that no patch differs from another."""


class Step(NamedTuple):
    """The measurements of one training step, made before it changes the weights.

    Attributes:
        position_64, position_32: L_SSL; chance level is ln 8 = 2.08. 0 where the objective has no position task.
        svdd_64, svdd_32: L_SVDD' or L_SVDD, before it is multiplied by lambda.
        spread_64, spread_32: Root mean square distance of the main patches' embeddings from their mean.
    """

    position_64: float
    position_32: float
    svdd_64: float
    svdd_32: float
    spread_64: float
    spread_32: float

    @staticmethod
    def to_tensor(history: Sequence["Step"]) -> Float[Tensor, "n 6"]:
        """Put steps into a tensor, one row a step, as files hold them."""
        return torch.tensor(history, dtype=torch.float64).view(len(history), len(Step._fields))

    @staticmethod
    def from_tensor(rows: Float[Tensor, "n 6"]) -> list["Step"]:
        """Read the steps of ``to_tensor``."""
        return [Step(*row) for row in rows.tolist()]


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Select the tensors of a file whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


class Trainer:
    """Train the encoders; a training that was stopped and resumed gives the same numbers as one without a stop.

    Args:
        settings: How to train.
        images: Normal images, (n, 3, h, w), as bytes.
        mean: Their mean image, values from 0 to 1.
        device: Where to compute.

    Attributes:
        encoder: The encoders in training.
        history: The measurements of each step.
    """

    def __init__(
        self,
        settings: Settings,
        images: UInt8[Tensor, "n 3 h w"],
        mean: Float[Tensor, "3 h w"],
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings, self.images, self.mean, self.device = settings, images, mean.cpu(), torch.device(device)
        count, _, height, width = images.shape
        self._drawn_from = count, (height, width)
        self.encoder = initial_encoder(settings.dimensions, settings.seed).to(device)
        with seeded(settings.seed + 1):
            classifiers = {size: PositionClassifier(settings.dimensions, frozen=settings.frozen) for size in SIZES}
        self.modules = nn.ModuleDict({"encoder": self.encoder, **{f"position_{k}": c for k, c in classifiers.items()}})
        self.modules.to(device).train()
        trained = [p for p in self.modules.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=settings.lr)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.history: list[Step] = []
        self.centres = self._centres() if settings.objective == "centre" else {}
        self._warned = False

    def run(
        self,
        steps: int,
        *,
        checkpoint: str | Path | None = None,
        every: int = 100,
        progress: bool = True,
        on_step: OnStep | None = None,
    ) -> None:
        """Train until ``steps`` are done, those of the checkpoint included; arguments as for ``PatchSVDD.fit``.

        Raises:
            ValueError: if the checkpoint is past these steps or of another training, or a loss is not finite.
        """
        if checkpoint is not None:
            storage.check_folder(checkpoint)
            if Path(checkpoint).exists():
                self.resume(checkpoint)
        if len(self.history) > steps:
            raise ValueError(f"{checkpoint} is at step {len(self.history)}, past steps={steps}: ask for more steps")
        with tqdm(total=steps, initial=len(self.history), desc="Patch SVDD", disable=not progress, leave=False) as bar:
            while len(self.history) < steps:
                measured = self.step()
                losses = zip(LOSSES, measured, strict=False)
                bar.set_postfix({name: f"{value:.3f}" for name, value in losses}, refresh=False)
                bar.update()
                self._warn_of_collapse()
                if checkpoint is not None and (len(self.history) % every == 0 or len(self.history) == steps):
                    self.save(checkpoint)
                if on_step is not None:
                    on_step(len(self.history), measured)

    def step(self) -> Step:
        """Draw a batch of pairs for each task and size, and take one step of Adam.

        Raises:
            ValueError: if a loss is NaN or infinite.
        """
        batches = {size: self._draw(size) for size in SIZES}
        fine, coarse = self.encoder.patches(*(torch.cat(batches[size][0]).to(self.device) for size in (FINE, COARSE)))
        terms = [self._terms(size, h, batches[size][1]) for size, h in ((COARSE, coarse), (FINE, fine))]
        position, svdd, spread = (torch.stack(both) for both in zip(*terms, strict=True))
        loss = (self.settings.lambda_ * svdd + position).sum()  # equation 6
        measured = Step(*torch.cat([position, svdd, spread]).tolist())
        if not torch.isfinite(loss):
            raise ValueError(f"step {len(self.history) + 1}: {measured} is not finite; try a smaller lr")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.history.append(measured)
        return measured

    def _draw(self, patch: int) -> tuple[list[Float[Tensor, "b 3 k k"]], Int[Tensor, "b"] | None]:
        """Draw main patches, their close neighbours, and both patches of the position task with their directions."""
        s = self.settings
        close = close_pairs(s.batch, *self._drawn_from, patch, self.generator)
        if s.objective == "centre":
            return [self._crop(close.images, close.main, patch)], None
        patches = [self._crop(close.images, corners, patch) for corners in (close.main, close.neighbour)]
        if s.objective == "neighbours":
            return patches, None
        apart = position_pairs(s.batch, *self._drawn_from, patch, self.generator)
        both = (self._crop(apart.images, corners, patch) for corners in (apart.main, apart.neighbour))
        return [*patches, *(jittered(each, self.generator) for each in both)], apart.directions

    def _crop(self, which: Int[Tensor, "b"], corners: Int[Tensor, "b 2"], patch: int) -> Float[Tensor, "b 3 k k"]:
        """Crop patches as the encoder takes them: values from 0 to 1, with the mean image subtracted."""
        mean = crop(self.mean[None], torch.zeros_like(which), corners, patch)
        return crop(self.images, which, corners, patch) / 255 - mean

    def _terms(
        self, size: int, embeddings: Float[Tensor, "_patches d"], directions: Int[Tensor, "b"] | None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """Compute L_SSL, L_SVDD and the spread of one size."""
        main, *others = embeddings.split(self.settings.batch)
        goal = self.centres[size] if size in self.centres else others[0]
        svdd = (main - goal).norm(dim=1).mean()
        spread = (main - main.mean(0)).detach().square().sum(1).mean().sqrt()
        if directions is None:
            return torch.zeros_like(svdd), svdd, spread
        scores = self.modules[f"position_{size}"](*others[1:])
        return F.cross_entropy(scores, directions.to(scores.device)), svdd, spread

    @torch.no_grad()
    def _centres(self) -> dict[int, Float[Tensor, "d"]]:
        """Compute the mean embedding of random patches of each size, by the encoders before their first step."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        pairs = {size: close_pairs(CENTRE_OF, *self._drawn_from, size, generator) for size in (FINE, COARSE)}
        patches = (self._crop(pair.images, pair.main, size).to(self.device) for size, pair in pairs.items())
        return {size: h.mean(0) for size, h in zip(pairs, self.encoder.patches(*patches), strict=True)}

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: weights, Adam's moments, random state and history, as a whole or not at all."""
        adam = self.optimizer.state_dict()["state"]
        tensors = {f"weights.{name}": value for name, value in self.modules.state_dict().items()}
        tensors |= {f"adam.{number}.{key}": x for number, moments in adam.items() for key, x in moments.items()}
        tensors |= {f"centre.{size}": centre for size, centre in self.centres.items()}
        tensors |= {"generator": self.generator.get_state(), "history": Step.to_tensor(self.history)}
        storage.write(path, KIND, self._identity(), tensors)

    def resume(self, path: str | Path) -> None:
        """Go back to the state of a checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or of a training with other settings or images.
        """
        description, tensors = storage.read(path, KIND)
        for name, value in self._identity().items():
            if (there := description.get(name)) != value:
                other = "other images" if name == "images" else f"{name}={there}, not {value}"
                raise ValueError(f"{path} is of a training with {other}: name another checkpoint, or remove this one")
        try:
            self.modules.load_state_dict(below("weights.", tensors))
            self._resume_adam(below("adam.", tensors))
            self.centres = {size: tensors[f"centre.{size}"].to(self.device) for size in self.centres}
            self.generator.set_state(tensors["generator"])
            self.history = Step.from_tensor(tensors["history"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no whole checkpoint ({error}): remove it and start again") from None

    def _resume_adam(self, moments: dict[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})

    def _identity(self) -> dict:
        """Describe what a checkpoint must share with this training."""
        return asdict(self.settings) | {"images": self._fingerprint}

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.images.contiguous().numpy().data).hexdigest()
        return f"{tuple(self.images.shape)} {digest}"

    def _warn_of_collapse(self) -> None:
        """Warn, once, if the spread of a size has fallen to a small share of what it was at the start."""
        if self._warned or len(self.history) < 2 * WINDOW:
            return
        for size in SIZES:
            values = [getattr(step, f"spread_{size}") for step in self.history]
            first, last = sum(values[:WINDOW]) / WINDOW, sum(values[-WINDOW:]) / WINDOW
            if last < COLLAPSED * first:
                self._warned = True
                warnings.warn(
                    f"step {len(self.history)}: the embeddings of {size} x {size} patches draw together, their spread "
                    f"fell from {first:.1e} to {last:.1e}; {self._advice()}. Where all patches have one embedding no "
                    "patch differs from another, and the AUROC is .500",
                    Collapse,
                    stacklevel=4,
                )
                return

    def _advice(self) -> str:
        if self.settings.objective == "neighbours and position":
            return f"lambda_={self.settings.lambda_:g} pulls harder than the position task pushes: try a tenth of it"
        return f"in objective={self.settings.objective!r} nothing pushes them apart"
