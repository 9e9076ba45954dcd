r"""One Gaussian for each position of a grid, over the features of several layers, from statistics that stream.

At each position the features of all layers stand in one vector x; a coarser layer's cell counts for every position
that it covers. From n vectors x_1 .. x_n of normal images come

    mean = (1/n) sum_i x_i,    S = sum_i (x_i - mean)(x_i - mean)^T,    C = S / (n - 1) + epsilon I,

and a new vector's Mahalanobis distance M(x) = sqrt((x - mean)^T C^-1 (x - mean)) (equations 1 and 2 of Defard et al.
2020, arXiv 2011.08785). (n, mean, S) is all that is kept. Two such states are added as in Chan et al. 1979,

    S = S_a + S_b + (n_a n_b / n) (mean_a - mean_b)(mean_a - mean_b)^T,

so that images may come in any order, in batches of any size, and from several processes.

Shared blocks. Where grids nest, all positions under one coarse cell have the same features there. With x ordered from
coarse to fine, the block of S for levels k >= j depends on the cell of level k alone, and so does the block of the
Cholesky factor L of C = L L^T:

    L_kj = (C_kj - sum_{i<j} L_ki L_ji^T) L_jj^-T,    L_kk = chol(C_kk - sum_{j<k} L_kj L_kj^T),

and that of y = L^-1 (x - mean), of which M^2 = |y|^2. Each is stored and computed once for each cell of level k: for
grids of 14, 28 and 56 cells a side and 100 dimensions that is about a fifth of one full matrix a position. A layer
whose grid does not nest is repeated to the finest grid (nearest); where none nests, this is one full matrix a position.

Few images. As long as they take less room than S, the n vectors themselves are kept. With A the centred vectors as
columns, the Woodbury identity gives

    M^2 = (|x|^2 - |K^-1 A^T x|^2) / epsilon,    K K^T = A^T A + (n - 1) epsilon I,

x without its mean: n x n numbers a position in place of d x d, and |x|^2 and A^T x are sums over the levels. Because of
the difference this is computed in double precision.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from xailab.padim.levels import Shape, grouped, nested, strips
from xailab.padim.solvers import BlockCholesky, Woodbury

Features = Sequence[Float[Tensor, "n _c _h _w"]]
PENDING = 32  # images that wait until they are added to S at once
SINGLE = 1000  # largest variance, in units of epsilon, for which single precision keeps distances to better than 1e-4


class Gaussians:
    """A Gaussian for each position of the finest grid.

    Args:
        shapes: (channels, rows, columns) of each layer, in any order.
        epsilon: What is added to the diagonal of the covariance, above 0.
        dtype: Of the statistics and the distances. Statistics in single precision become double where a variance is
            more than 1000 epsilon, as in networks without batch norm: rounding would drown epsilon.
        device: Of the statistics.

    Attributes:
        levels: The layers by grid, coarse to fine.
        n: Number of images so far.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        *,
        epsilon: float = 0.01,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shapes, self.epsilon, self.n = [tuple(shape) for shape in shapes], epsilon, 0
        self.levels = nested(self.shapes)
        self.dtype = dtype
        self._like = torch.empty(0, dtype=dtype, device=device)
        self._waiting: list[list[Tensor]] = []  # batches of features by level, (n, channels, rows, columns)
        self._mean: list[Tensor] = []  # by level, (cells, channels); empty as long as all features wait
        self._scatter: list[list[Tensor]] = []  # S: by levels k and j <= k, (cells of k, channels of k, channels of j)
        self._solver: BlockCholesky | Woodbury | None = None

    @property
    def device(self) -> torch.device:
        """Where the statistics are."""
        return self._like.device

    @property
    def nbytes(self) -> int:
        """Size of the state, which does not grow with n once S is kept."""
        kept = [*self._mean, *_flat(self._scatter), *_flat(self._waiting)]
        return sum(tensor.nbytes for tensor in kept)

    def update(self, features: Features) -> None:
        """Add a batch of normal images.

        Args:
            features: Of each layer, (n, channels, rows, columns).

        Raises:
            ValueError: if the shapes are not those of this state, or a value is NaN or infinite.
        """
        with _exact():
            batch = self._by_level(features)
            if not all(torch.isfinite(level.sum()) for level in batch):
                raise ValueError("features are NaN or infinite: look at the images and the network's weights first")
            if len(batch[0]) == 0:
                return
            self._add(batch)
            self._settle(at_most=PENDING)
            if self._waiting:  # for longer than this call, in which the caller may change what is theirs
                self._waiting[-1] = [level.clone() for level in batch]

    def merge(self, other: "Gaussians") -> "Gaussians":
        """The state of both sets of images together, as a new one.

        Raises:
            ValueError: if the layers' shapes or epsilon differ.
        """
        if (self.shapes, self.epsilon) != (other.shapes, other.epsilon):
            raise ValueError(
                f"states of different layers: {self.shapes} with epsilon {self.epsilon}, and {other.shapes} with "
                f"{other.epsilon}"
            )
        with _exact():
            self._settle()
            other._settle()
            if other._scatter and not self._scatter:
                return other.merge(self).to(self.device)
            merged = self._copy()
            for batch in other._waiting:
                merged._add([level.to(self.device, self.dtype) for level in batch])
            merged._settle()
            if other._scatter:
                if other._like.dtype == torch.float64:
                    merged._widen()
                merged.n = self.n + other.n
                shifts = [theirs.to(mine) - mine for mine, theirs in zip(merged._mean, other._mean, strict=True)]
                for mean, shift in zip(merged._mean, shifts, strict=True):
                    mean += shift * (other.n / merged.n)
                for block, theirs in zip(_flat(merged._scatter), _flat(other._scatter), strict=True):
                    block += theirs.to(block)
                merged._add_squares(shifts, self.n * other.n / merged.n)
            return merged

    def distances(self, features: Features) -> Float[Tensor, "n h w"]:
        """Mahalanobis distance of each image to the normal ones, at each position of the finest grid.

        Raises:
            ValueError: if there are fewer than two normal images, the shapes differ, or a value is NaN or infinite.
        """
        with _exact():
            self.factorise()
            batch = self._by_level(features)
            like = self._solver.mean[-1]
            squares = like.new_empty(self.levels[-1].size, len(batch[0]))
            for strip in strips(self.levels, self._solver.numbers * len(batch[0])):
                parts = zip(self.levels, batch, strict=True)
                vectors = [level.as_cells(x[:, :, level.rows(strip)].to(like)) for level, x in parts]
                squares[self.levels[-1].cells(strip)] = self._solver.squares(vectors, strip)
            if not torch.isfinite(squares).all():
                raise ValueError("distances are NaN or infinite: look at the images and the network's weights first")
            return self.levels[-1].as_maps(squares.sqrt_().to(self.dtype))

    def factorise(self) -> None:
        """Make what ``distances`` needs, unless it is there: once after each change of the state.

        Raises:
            ValueError: if there are fewer than two normal images.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 normal images, and there are {self.n}")
        if self._solver is None:
            with _exact():
                self._settle()
                if not self._scatter and 2 * self.n**2 * self.levels[-1].size <= self._room():  # in double precision
                    features = [self._together(k) for k in range(len(self.levels))]
                    self._solver = Woodbury(self.levels, features, self.epsilon)
                    return
                state = self if self._scatter else self._copy()
                state._fold()
                self._solver = BlockCholesky(self.levels, self.n, state._mean, state._scatter, self.epsilon)

    def all_reduce(self) -> None:
        """Add up the states of all processes of ``torch.distributed``, so that each has the whole."""
        with _exact():
            self._solver = None
            counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=self.device)
            counts[dist.get_rank()] = self.n
            dist.all_reduce(counts)
            mine, before, total = self.n, int(counts[: dist.get_rank()].sum()), int(counts.sum())
            if not self._is_large(total):  # each process fills in its images between those of the others
                like = self._like.to(self.dtype)
                whole = [like.new_zeros(total, *level.shape) for level in self.levels]
                for k, level in enumerate(whole):
                    if mine:
                        level[before : before + mine] = self._together(k)
                    dist.all_reduce(level)
                self._waiting, self.n = [whole], total
                return
            self._fold()
            wide = torch.tensor(self._like.dtype == torch.float64, dtype=torch.int64, device=self.device)
            dist.all_reduce(wide)
            if wide:
                self._widen()
            shifts = []
            for mean in self._mean:
                whole = mean.double() * mine
                dist.all_reduce(whole)
                shifts.append(mean - whole / total)
                mean.copy_(whole / total)
            self._add_squares([shift.to(self._like) for shift in shifts], mine)
            for block in _flat(self._scatter):
                dist.all_reduce(block)
            self.n = total

    def to(self, device: torch.device | str) -> "Gaussians":
        """Move the state to a device; returns itself."""
        self._like, self._solver = self._like.to(device), None
        self._waiting = [[level.to(device) for level in batch] for batch in self._waiting]
        self._mean = [mean.to(device) for mean in self._mean]
        self._scatter = [[block.to(device) for block in row] for row in self._scatter]
        return self

    def state(self) -> dict[str, Tensor]:
        """The statistics by name, as ``load_state`` takes them."""
        with _exact():
            self._settle()
        if self._waiting:
            return {f"features.{k}": self._together(k) for k in range(len(self.levels))}
        blocks = {f"scatter.{k}.{j}": block for k, row in enumerate(self._scatter) for j, block in enumerate(row)}
        return {f"mean.{k}": mean for k, mean in enumerate(self._mean)} | blocks

    def load_state(self, n: int, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state`` gave, of n images.

        Raises:
            ValueError: if a tensor is missing, or has another shape or type, or a value that is not finite.
        """
        shapes, dtype = {}, tensors.get("mean.0", self._like).dtype if self._is_large(n) else self.dtype
        for k, level in enumerate(self.levels):
            if self._is_large(n):
                shapes[f"mean.{k}"] = (level.size, level.channels)
                for j, coarser in enumerate(self.levels[: k + 1]):
                    shapes[f"scatter.{k}.{j}"] = (level.size, level.channels, coarser.channels)
            else:
                shapes[f"features.{k}"] = (n, *level.shape)
        for name, shape in shapes.items():
            tensor = tensors.get(name, torch.empty(0))
            if tensor.shape != shape or tensor.dtype != dtype:
                found = f"{tensor.dtype} {tuple(tensor.shape)}" if name in tensors else "nothing"
                raise ValueError(f"{name}: expected {dtype} {shape}, found {found}")
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{name} has values that are NaN or infinite")
        moved = {name: tensors[name].to(self.device) for name in shapes}
        self._like = self._like.to(dtype)
        self.n, self._solver, levels = n, None, range(len(self.levels))
        self._mean = [moved[f"mean.{k}"] for k in levels if f"mean.{k}" in moved]
        self._scatter = [[moved[f"scatter.{k}.{j}"] for j in range(k + 1)] for k in levels if self._mean]
        self._waiting = [] if self._mean else [[moved[f"features.{k}"] for k in levels]]

    def _room(self) -> int:
        """How many numbers S has."""
        widths = [level.channels for level in self.levels]
        return sum(level.size * level.channels * sum(widths[: k + 1]) for k, level in enumerate(self.levels))

    def _is_large(self, n: int) -> bool:
        """Whether the features of n images take more room than S."""
        return n * sum(level.size * level.channels for level in self.levels) > self._room()

    def _by_level(self, features: Features) -> list[Tensor]:
        """Put the layers of each level together, those that do not nest repeated to the finest grid."""
        found = [tuple(layer.shape[1:]) for layer in features]
        if found != self.shapes or len({len(layer) for layer in features}) != 1:
            raise ValueError(f"expected features of {self.shapes} (channels, rows, columns), got {found}")
        levels = []
        for level in self.levels:
            layers = [features[layer].to(self.device, self.dtype) for layer in level.layers]
            fitting = [x if x.shape[2:] == level.grid else F.interpolate(x, level.grid) for x in layers]
            levels.append(torch.cat(fitting, 1) if len(fitting) > 1 else fitting[0])
        return levels

    def _widen(self) -> None:
        self._like = self._like.double()
        self._mean = [mean.double() for mean in self._mean]
        self._scatter = [[block.double() for block in row] for row in self._scatter]

    def _add(self, batch: list[Tensor]) -> None:
        self._waiting.append(batch)
        self.n += len(batch[0])
        self._solver = None

    def _settle(self, at_most: int = 0) -> None:
        """Fold features into S, if they take more room and are more than so many that may wait."""
        if self._is_large(self.n) and (not self._scatter or sum(len(batch[0]) for batch in self._waiting) > at_most):
            self._fold()

    def _fold(self) -> None:
        """Add all features that wait to the mean and S."""
        if not self._scatter:
            self._mean = [self._like.new_zeros(level.size, level.channels) for level in self.levels]
            self._scatter = [
                [self._like.new_zeros(*mean.shape, coarser.shape[1]) for coarser in self._mean[: k + 1]]
                for k, mean in enumerate(self._mean)
            ]
        new = sum(len(batch[0]) for batch in self._waiting)
        if not new:
            return
        for strip in strips(self.levels, new * sum(level.size * level.channels for level in self.levels)):
            shifts, centred = self._centred(strip, new)
            if self._like.dtype != torch.float64 and self._is_wide(centred):
                self._widen()
                shifts, centred = self._centred(strip, new)
            for k, (level, shift, finer) in enumerate(zip(self.levels, shifts, centred, strict=True)):
                self._mean[k][level.cells(strip)] += shift * (new / self.n)
                for j, coarser in enumerate(centred[: k + 1]):
                    block = self._scatter[k][j][level.cells(strip)]
                    grouped(block, coarser).baddbmm_(grouped(finer, coarser), coarser.mT)
        self._waiting = []

    def _centred(self, strip: slice, new: int) -> tuple[list[Tensor], list[Tensor]]:
        """Features that wait, of one strip: by how much their average shifts the mean, and what they add to S.

        The last column is that of the sum of two states.
        """
        shifts, centred = [], []
        for k, level in enumerate(self.levels):
            vectors = level.as_cells(self._together(k, level.rows(strip)).to(self._like))
            average = vectors.mean(-1)
            shifts.append(average - self._mean[k][level.cells(strip)])
            centred.append(vectors.new_empty(*average.shape, new + 1))
            torch.sub(vectors, average.unsqueeze(-1), out=centred[-1][..., :new])
            centred[-1][..., new] = shifts[-1] * math.sqrt((self.n - new) * new / self.n)
        return shifts, centred

    def _is_wide(self, centred: list[Tensor]) -> bool:
        """Whether a variance is too large for single precision."""
        squares = (level.square().sum(-1).max() / level.shape[-1] for level in centred if level.numel())
        return any(square > SINGLE * self.epsilon for square in squares)

    def _add_squares(self, shifts: list[Float[Tensor, "_cells _channels"]], weight: float) -> None:
        """S += weight * shift shift^T."""
        columns = [shift.unsqueeze(-1) for shift in shifts]
        for k, finer in enumerate(columns):
            for block, coarser in zip(self._scatter[k], columns, strict=False):
                grouped(block, coarser).baddbmm_(grouped(finer, coarser), coarser.mT, alpha=weight)

    def _together(self, k: int, rows: slice = slice(None)) -> Float[Tensor, "n c _h _w"]:
        """All features that wait, of one level and some of its rows."""
        batches = [batch[k][:, :, rows] for batch in self._waiting]
        return torch.cat(batches) if len(batches) > 1 else batches[0]

    def _copy(self) -> "Gaussians":
        copied = Gaussians(self.shapes, epsilon=self.epsilon, dtype=self.dtype, device=self.device)
        copied.n, copied._like, copied._waiting = self.n, self._like, list(self._waiting)
        copied._mean = [mean.clone() for mean in self._mean]
        copied._scatter = [[block.clone() for block in row] for row in self._scatter]
        return copied


def _flat(rows: list[list[Tensor]]) -> list[Tensor]:
    return [block for row in rows for block in row]


@contextmanager
def _exact() -> Iterator[None]:
    """No graph, no tensors of ``inference_mode``, and full precision, whatever surrounds the call."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield
