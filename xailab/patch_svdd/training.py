r"""Training the encoders of Patch SVDD: four losses, Adam, checkpoints, and a warning before all is lost.

With h and h' the embeddings of a patch and its neighbour, and C the position classifier, at both sizes, 64 and 32:

    L_SVDD' = mean |h - h'|                       patches a pixel or two apart (equation 4)
    L_SSL   = mean cross-entropy(C(h - h'), y)    patches side by side, in direction y (equation 5)
    L       = lambda L_SVDD' + L_SSL              summed over both sizes (equation 6)

of Yi and Yoon 2020, arXiv 2006.16067; the distance itself, as in the authors' code, where the paper has its square. Two
other objectives are there to compare with: "neighbours" is L_SVDD' alone, and "centre" is what Deep SVDD does to
patches (equation 2; Ruff et al., ICML 2018): L_SVDD = mean |h - c| with one centre c, the mean at the start.
"""

import hashlib
import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from xailab import storage
from xailab.patch_svdd.network import COARSE, FINE, PositionClassifier, initial_encoder, seeded
from xailab.patch_svdd.sampling import close_pairs, cut, position_pairs, shaken

Objective = Literal["neighbours and position", "neighbours", "centre"]
OnStep = Callable[[int, "Step"], object]

KIND = "Patch SVDD checkpoint"  # as files say
SIZES = (COARSE, FINE)
LOSSES = ("position_64", "position_32", "svdd_64", "svdd_32")
WINDOW = 20  # steps over which the spread is averaged
COLLAPSED = 0.02  # share of its first value to which the spread may fall without a warning
CENTRE_OF = 256  # patches whose mean is the centre


class Collapse(UserWarning):
    """The embeddings of all patches draw together in one point, where nothing can be told apart."""


class Step(NamedTuple):
    """What one step of the training measured, before it changed the weights.

    Attributes:
        position_64, position_32: L_SSL; who guesses has ln 8 = 2.08. 0 where the objective has no position task.
        svdd_64, svdd_32: L_SVDD' or L_SVDD, before it is multiplied by lambda.
        spread_64, spread_32: How far the main patches' embeddings lie from their mean (root mean square).
    """

    position_64: float
    position_32: float
    svdd_64: float
    svdd_32: float
    spread_64: float
    spread_32: float


@dataclass(frozen=True)
class Settings:
    """What decides a training's course, next to the images and the number of steps.

    The defaults are the course's (``COURSE``), minutes of work for a laptop; ``PAPER`` has the authors', who take 300
    epochs, about 470 steps for each image.

    Attributes:
        dimensions: Of the embeddings.
        batch: Pairs of patches for each of the four losses in a step.
        lr: Adam's learning rate.
        lambda_: How much the pull of neighbours weighs against the position task. The authors take 1, and 1e-3 for
            bottles, from smaller initial weights; if it is too large the embeddings collapse.
        objective: "neighbours and position" is Patch SVDD; "neighbours" leaves the position task out; "centre" pulls
            all patches to one point, as Deep SVDD does.
        frozen: Leave the position classifiers' last weights as they were drawn, as the authors' code does.
        seed: Of the initial weights and of all that is drawn.

    Raises:
        ValueError: if one is out of its range.
    """

    dimensions: int = 64
    batch: int = 16
    lr: float = 1e-3
    lambda_: float = 0.3
    objective: Objective = "neighbours and position"
    frozen: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimensions < 1 or self.batch < 2:
            raise ValueError(f"dimensions={self.dimensions}, batch={self.batch}: expected from 1, and from 2")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr={self.lr}: expected a number above 0; Adam's usual ones are 1e-4 to 1e-3")
        if not 0 <= self.lambda_ < math.inf:
            raise ValueError(f"lambda_={self.lambda_}: expected a number from 0")
        if self.objective not in get_args(Objective):
            raise ValueError(
                f"objective={self.objective!r}: expected one of {', '.join(map(repr, get_args(Objective)))}"
            )


COURSE = Settings()
PAPER = Settings(batch=64, lr=1e-4, lambda_=1.0)


class Trainer:
    """A training that can be stopped and gone on with; the same numbers come out as without a stop.

    Args:
        settings: How to train.
        images: Normal images, (n, 3, h, w), as bytes.
        mean: Their mean image, values from 0 to 1.
        device: Where to compute.

    Attributes:
        encoder: What is trained.
        history: What each step measured.
    """

    def __init__(
        self,
        settings: Settings,
        images: UInt8[Tensor, "n 3 h w"],
        mean: Float[Tensor, "3 h w"],
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings, self.images, self.mean, self.device = settings, images, mean.cpu(), torch.device(device)
        self.encoder = initial_encoder(settings.dimensions, settings.seed).to(device)
        with seeded(settings.seed + 1):
            classifiers = {size: PositionClassifier(settings.dimensions, frozen=settings.frozen) for size in SIZES}
        self.modules = nn.ModuleDict({"encoder": self.encoder, **{f"position_{k}": c for k, c in classifiers.items()}})
        self.modules.to(device).train()
        self.parameters = {name: p for name, p in self.modules.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.Adam(self.parameters.values(), lr=settings.lr)
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
        """Train until so many steps are done, with those of the checkpoint; arguments as for ``PatchSVDD.fit``."""
        if checkpoint is not None:
            storage.check_folder(checkpoint)
            if Path(checkpoint).exists():
                self.resume(checkpoint)
        if len(self.history) > steps:
            raise ValueError(f"{checkpoint} is at step {len(self.history)}, past steps={steps}: ask for more steps")
        with tqdm(total=steps, initial=len(self.history), desc="Patch SVDD", disable=not progress, leave=False) as bar:
            while len(self.history) < steps:
                measured = self.step()
                bar.set_postfix(
                    {name: f"{value:.3f}" for name, value in zip(LOSSES, measured, strict=False)}, refresh=False
                )
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
        position, svdd, spread = zip(*terms, strict=True)
        loss = sum(position) + self.settings.lambda_ * sum(svdd)
        measured = Step(*torch.stack([*position, *svdd, *spread]).tolist())
        if not torch.isfinite(loss):
            raise ValueError(f"step {len(self.history) + 1}: {measured} is not finite; try a smaller lr")
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.history.append(measured)
        return measured

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: weights, Adam's moments, random state and history, as a whole or not at all."""
        moments = {
            f"adam.{name}.{key}": value
            for name, parameter in self.parameters.items()
            for key, value in self.optimiser.state.get(parameter, {}).items()
        }
        history = torch.tensor(self.history, dtype=torch.float64).view(len(self.history), len(Step._fields))
        tensors = {f"weights.{name}": value for name, value in self.modules.state_dict().items()} | moments
        tensors |= {f"centre.{size}": centre for size, centre in self.centres.items()}
        tensors |= {"generator": self.generator.get_state(), "history": history}
        storage.write(path, KIND, self._identity(), tensors)

    def resume(self, path: str | Path) -> None:
        """Go back to the state of a checkpoint.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is damaged, or of a training with other settings or images.
        """
        description, tensors = storage.read(path, KIND)
        for name, value in self._identity().items():
            if description.get(name) != value:
                there = description.get(name)
                what = f"{name}={there}, not {value}" if name != "images" else "other images"
                raise ValueError(f"{path} is of a training with {what}: name another checkpoint, or remove this one")
        weights = {name.removeprefix("weights."): x for name, x in tensors.items() if name.startswith("weights.")}
        try:
            self.modules.load_state_dict(weights)
            for name, parameter in self.parameters.items():
                prefix = f"adam.{name}."
                moments = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
                if moments:
                    self.optimiser.state[parameter] = {
                        key: x if x.ndim == 0 else x.to(parameter) for key, x in moments.items()
                    }
            self.centres = {size: tensors[f"centre.{size}"].to(self.device) for size in self.centres}
            self.generator.set_state(tensors["generator"])
            self.history = [Step(*row) for row in tensors["history"].tolist()]
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"{path} is no whole checkpoint ({error}): remove it and start again") from None

    def _identity(self) -> dict:
        """What a checkpoint must share with this training."""
        return asdict(self.settings) | {"images": self._fingerprint}

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.images.contiguous().numpy()).hexdigest()
        return f"{tuple(self.images.shape)} {digest}"

    def _draw(self, patch: int) -> tuple[list[Float[Tensor, "b 3 k k"]], Int[Tensor, "b"] | None]:
        """Main patches, their close neighbours, and both patches of the position task, with the directions."""
        s, shape = self.settings, (len(self.images), tuple(self.images.shape[2:]))
        close = close_pairs(s.batch, *shape, patch, self.generator)
        if s.objective == "centre":
            return [self._cut(close.images, close.main, patch)], None
        patches = [self._cut(close.images, corners, patch) for corners in (close.main, close.neighbour)]
        if s.objective == "neighbours":
            return patches, None
        apart = position_pairs(s.batch, *shape, patch, self.generator)
        both = (self._cut(apart.images, corners, patch) for corners in (apart.main, apart.neighbour))
        return [*patches, *(shaken(each, self.generator) for each in both)], apart.directions

    def _cut(self, which: Int[Tensor, "b"], corners: Int[Tensor, "b 2"], patch: int) -> Float[Tensor, "b 3 k k"]:
        """Patches as the encoder wants them: pixel values from 0 to 1, less those of the mean image."""
        mean = cut(self.mean[None], torch.zeros_like(which), corners, patch)
        return cut(self.images, which, corners, patch) / 255 - mean

    def _terms(
        self, size: int, embeddings: Float[Tensor, "_patches d"], directions: Int[Tensor, "b"] | None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """L_SSL, L_SVDD and the spread of one size."""
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
        """Mean embeddings of random patches, by size, as the encoder makes them before its first step."""
        shape, generator = (
            (len(self.images), tuple(self.images.shape[2:])),
            torch.Generator().manual_seed(self.settings.seed),
        )
        pairs = {size: close_pairs(CENTRE_OF, *shape, size, generator) for size in (FINE, COARSE)}
        patches = (self._cut(pair.images, pair.main, size).to(self.device) for size, pair in pairs.items())
        return {size: h.mean(0) for size, h in zip(pairs, self.encoder.patches(*patches), strict=True)}

    def _warn_of_collapse(self) -> None:
        if self._warned or len(self.history) < 2 * WINDOW:
            return
        for size in SIZES:
            name = f"spread_{size}"
            first, last = (
                sum(getattr(step, name) for step in window) / WINDOW
                for window in (self.history[:WINDOW], self.history[-WINDOW:])
            )
            if last < COLLAPSED * first:
                advice = (
                    f"lambda_={self.settings.lambda_:g} pulls harder than the position task pushes: try a tenth of it"
                    if self.settings.objective == "neighbours and position"
                    else f"in objective={self.settings.objective!r} nothing pushes them apart"
                )
                warnings.warn(
                    f"step {len(self.history)}: the embeddings of {size} x {size} patches draw together, their spread "
                    f"fell from {first:.1e} to {last:.1e}; {advice}. Where all patches have one embedding nothing "
                    "is told apart, and the AUROC is .500",
                    Collapse,
                    stacklevel=4,
                )
                self._warned = True
                return
