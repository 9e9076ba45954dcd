r"""Fit one Gaussian to each position of a grid, with statistics that stream and are shared between positions.

At each position the features of all layers are concatenated into one vector x; each cell of a coarser layer is
repeated for every position that it covers. From n vectors x_1 .. x_n of normal images come

    mean = (1/n) sum_i x_i,    S = sum_i (x_i - mean)(x_i - mean)^T,    C = S / (n - 1) + epsilon I,

and a new vector's Mahalanobis distance M(x) = sqrt((x - mean)^T C^-1 (x - mean)) (equations 1 and 2 of Defard et al.
2020, arXiv 2011.08785). ``textbook`` computes just that. Here it takes less memory and time, in three ways.

Streaming (``statistics``). Only n, mean and the scatter matrix S are kept. Two such states add up (Chan et al. 1979) to

    S = S_a + S_b + (n_a n_b / n) (mean_a - mean_b)(mean_a - mean_b)^T,

so that images may come in any order, in batches of any size, and from several processes.

Shared blocks (``levels``, ``solvers.BlockCholesky``). Where grids nest, all positions under one coarse cell have the
same features there. With x ordered from coarse to fine, the block of S for levels k >= j depends on the cell of level k
alone, and so does the block of the Cholesky factor L of C = L L^T,

    L_kj = (C_kj - sum_{i<j} L_ki L_ji^T) L_jj^-T,    L_kk = chol(C_kk - sum_{j<k} L_kj L_kj^T),

and the part of y = L^-1 (x - mean), of which M^2 = |y|^2,

    y_k = L_kk^-1 ((x - mean)_k - sum_{j<k} L_kj y_j).

Each is stored and computed once for each cell of level k: for grids of 14, 28 and 56 cells a side and 100 dimensions
that is about a fifth of one full matrix for each position. A layer whose grid does not nest is repeated to the finest
grid (nearest); where none nests, there is one full matrix for each position.

Few images (``solvers.Woodbury``). As long as they take less room than S, the n vectors themselves are kept. With A the
centred vectors as columns, the Woodbury identity gives

    M^2 = (|x|^2 - |K^-1 A^T x|^2) / epsilon,    K K^T = A^T A + (n - 1) epsilon I,

x without its mean: n x n numbers for each position in place of d x d, and |x|^2 and A^T x are sums over the levels.
Because of the difference this is computed in double precision.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from xailab.padim.levels import Shape, nested, shape_of, strips
from xailab.padim.precision import exact
from xailab.padim.solvers import BlockCholesky, Woodbury
from xailab.padim.statistics import Batch, Statistics, stacked

Features = Sequence[Float[Tensor, "n _c _h _w"]]
PENDING = 32  # images that wait until they are added to S together


class Gaussians:
    """Fit a Gaussian to each position of the finest layer's grid.

    >>> gaussians = Gaussians([(1, 1, 1)], epsilon=0.25)  # one layer: 1 channel, 1 x 1 cells
    >>> gaussians.update([torch.tensor([3.0, 3.0, 6.0]).view(3, 1, 1, 1)])  # mean 4, variance 3
    >>> round(gaussians.distances([torch.tensor(5.0).view(1, 1, 1, 1)]).item(), 2)  # 1 / sqrt(3.25)
    0.55

    Args:
        shapes: (channels, rows, columns) of each layer, in any order.
        epsilon: What is added to the diagonal of the covariance, above 0.
        dtype: Type of the statistics and the distances. Statistics in single precision become double where a variance
            is more than 1000 epsilon, as in networks without batch norm: rounding would drown epsilon.
        device: Device of the statistics.

    Attributes:
        levels: The layers by grid, coarse to fine.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        *,
        epsilon: float = 0.01,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shapes: list[Shape] = [(channels, rows, columns) for channels, rows, columns in shapes]
        self.levels = nested(self.shapes)
        self.epsilon, self.dtype = epsilon, dtype
        self.device = torch.empty(0, device=device).device
        self._pending: list[Batch] = []
        self._statistics: Statistics | None = None  # as long as the images take less room, all of them are pending
        self._solver: BlockCholesky | Woodbury | None = None

    @property
    def n(self) -> int:
        """Number of images so far."""
        pending = sum(len(batch[0]) for batch in self._pending)
        return pending + (self._statistics.n if self._statistics else 0)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the state."""
        kept = [*self._statistics.mean, *self._statistics.blocks] if self._statistics else []
        return kept + [level for batch in self._pending for level in batch]

    @property
    def nbytes(self) -> int:
        """Size of the state in bytes, which does not grow with n once S is kept."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @exact()
    def update(self, features: Features) -> None:
        """Add a batch of normal images.

        Args:
            features: Outputs of each layer, (n, channels, rows, columns).

        Raises:
            ValueError: if the shapes are not those of this state, or a value is NaN or infinite.
        """
        batch = self._by_level(features)
        if not all(torch.isfinite(level.sum()) for level in batch):
            raise ValueError("features are NaN or infinite: look at the images and the network's weights first")
        if len(batch[0]) == 0:
            return
        self._append(batch)
        self._flush_pending(at_most=PENDING)
        if self._pending:  # for longer than this call, and the caller may overwrite the features
            self._pending[-1] = [level.clone() for level in batch]

    @exact()
    def merge(self, other: "Gaussians") -> "Gaussians":
        """Return the state of both sets of images together, as a new one.

        Raises:
            ValueError: if the layers' shapes or epsilon differ.
        """
        if (self.shapes, self.epsilon) != (other.shapes, other.epsilon):
            raise ValueError(
                f"states of different layers: {self.shapes} with epsilon {self.epsilon}, and {other.shapes} with "
                f"{other.epsilon}"
            )
        self._flush_pending()
        other._flush_pending()
        if other._statistics and not self._statistics:
            return other.merge(self).to(self.device)
        merged = self._copy()
        for batch in other._pending:
            merged._append([level.to(self.device, self.dtype) for level in batch])
        merged._flush_pending()
        if merged._statistics and other._statistics:
            merged._statistics.merge(other._statistics)
        return merged

    @exact()
    def distances(self, features: Features) -> Float[Tensor, "n h w"]:
        """Compute the Mahalanobis distance of each image to the normal ones, at each position of the finest grid.

        Raises:
            ValueError: if there are fewer than two normal images, the shapes differ, or a value is NaN or infinite.
        """
        solver, batch, finest = self.factorise(), self._by_level(features), self.levels[-1]
        squares = solver.mean[-1].new_empty(finest.size, len(batch[0]))
        for strip in strips(self.levels, solver.numbers * len(batch[0])):
            parts = zip(self.levels, batch, strict=True)
            vectors = [level.to_cells(x[:, :, level.rows(strip)].to(squares)) for level, x in parts]
            squares[finest.cells(strip)] = solver.squares(vectors, strip)
        if not torch.isfinite(squares).all():
            raise ValueError("distances are NaN or infinite: look at the images and the network's weights first")
        return finest.to_maps(squares.sqrt_().to(self.dtype))

    @exact()
    def factorise(self) -> BlockCholesky | Woodbury:
        """Factorise the covariances, once after each change of the state.

        Raises:
            ValueError: if there are fewer than two normal images.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 normal images, and there are {self.n}")
        if self._solver is None:
            self._flush_pending()
            woodbury = 2 * self.n**2 * self.levels[-1].size  # numbers, twice as long in double precision
            if self._statistics is None and woodbury <= self._size_of_scatter():
                self._solver = Woodbury(self.levels, self._stacked(), self.epsilon)
            else:
                self._solver = BlockCholesky(self._accumulated(), self.epsilon)
        return self._solver

    @exact()
    def all_reduce(self) -> None:
        """Add up the states of all processes of ``torch.distributed``, so that each process has the whole."""
        counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=self.device)
        counts[dist.get_rank()] = self.n
        dist.all_reduce(counts)
        before, total = int(counts[: dist.get_rank()].sum()), int(counts.sum())
        if self._is_large(total):
            self._statistics, self._pending = self._accumulated(), []
            self._statistics.all_reduce(total)
        else:
            self._pending = [self._gathered(before, total)]
        self._solver = None

    def to(self, device: torch.device | str) -> "Gaussians":
        """Move the state to a device, and return it."""
        self.device, self._solver = torch.empty(0, device=device).device, None
        self._pending = [[level.to(device) for level in batch] for batch in self._pending]
        if self._statistics:
            self._statistics.convert(self.device)
        return self

    @exact()
    def state(self) -> dict[str, Tensor]:
        """Return the statistics by name, as ``load_state`` takes them."""
        self._flush_pending()
        if self._statistics is None:
            return {f"features.{k}": level for k, level in enumerate(self._stacked())} if self._pending else {}
        rows = enumerate(self._statistics.scatter)
        blocks = {f"scatter.{k}.{j}": block for k, row in rows for j, block in enumerate(row)}
        return {f"mean.{k}": mean for k, mean in enumerate(self._statistics.mean)} | blocks

    def load_state(self, n: int, tensors: dict[str, Tensor]) -> None:
        """Restore what ``state`` gave, of n images.

        Raises:
            ValueError: if a tensor is missing, or has another shape or type, or a value that is not finite.
        """
        large, levels = self._is_large(n), range(len(self.levels))
        dtype = tensors["mean.0"].dtype if large and "mean.0" in tensors else self.dtype
        shapes = self._shapes_of_statistics() if large else self._shapes_of_features(n)
        for name, shape in shapes.items():
            _check(name, tensors.get(name), shape, dtype)
        moved = {name: tensors[name].to(self.device) for name in shapes}
        self._statistics, self._pending, self._solver = None, [], None
        if large:
            self._statistics = Statistics(self.levels, self.epsilon, dtype, self.device)
            self._statistics.n = n
            self._statistics.mean = [moved[f"mean.{k}"] for k in levels]
            self._statistics.scatter = [[moved[f"scatter.{k}.{j}"] for j in range(k + 1)] for k in levels]
        else:
            self._pending = [[moved[f"features.{k}"] for k in levels]]

    def _shapes_of_statistics(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for k, level in enumerate(self.levels):
            shapes[f"mean.{k}"] = (level.size, level.channels)
            for j, coarser in enumerate(self.levels[: k + 1]):
                shapes[f"scatter.{k}.{j}"] = (level.size, level.channels, coarser.channels)
        return shapes

    def _shapes_of_features(self, n: int) -> dict[str, tuple[int, ...]]:
        return {f"features.{k}": (n, *level.shape) for k, level in enumerate(self.levels)}

    def _size_of_scatter(self) -> int:
        """Return how many numbers S has."""
        widths = [level.channels for level in self.levels]
        return sum(level.size * level.channels * sum(widths[: k + 1]) for k, level in enumerate(self.levels))

    def _is_large(self, n: int) -> bool:
        """Return whether the features of n images take more room than S."""
        return n * sum(level.size * level.channels for level in self.levels) > self._size_of_scatter()

    def _by_level(self, features: Features) -> Batch:
        """Concatenate the layers of each level, those that do not nest repeated to the finest grid."""
        found = [shape_of(layer) for layer in features]
        if found != self.shapes or len({len(layer) for layer in features}) != 1:
            raise ValueError(f"expected features of {self.shapes} (channels, rows, columns), got {found}")
        levels = []
        for level in self.levels:
            layers = [features[layer].to(self.device, self.dtype) for layer in level.layers]
            fitting = [x if x.shape[2:] == level.grid else F.interpolate(x, level.grid) for x in layers]
            levels.append(torch.cat(fitting, 1) if len(fitting) > 1 else fitting[0])
        return levels

    def _append(self, batch: Batch) -> None:
        self._pending.append(batch)
        self._solver = None

    def _flush_pending(self, at_most: int = 0) -> None:
        """Add pending images to S, if they take more room than S and are more than so many."""
        pending = sum(len(batch[0]) for batch in self._pending)
        if self._is_large(self.n) and (self._statistics is None or pending > at_most):
            self._statistics, self._pending = self._accumulated(), []

    def _accumulated(self) -> Statistics:
        """Return the statistics with the pending images added."""
        statistics = self._statistics or Statistics(self.levels, self.epsilon, self.dtype, self.device)
        statistics.accumulate(self._pending)
        return statistics

    def _stacked(self) -> Batch:
        """Return all pending images as one batch."""
        return [stacked(self._pending, k) for k in range(len(self.levels))]

    def _gathered(self, before: int, total: int) -> Batch:
        """Return the pending images of all processes, in each of which so many come before this process's own."""
        mine, whole = self._stacked() if self.n else [], []
        for k, level in enumerate(self.levels):
            images = torch.zeros(total, *level.shape, dtype=self.dtype, device=self.device)
            if mine:
                images[before : before + self.n] = mine[k]
            dist.all_reduce(images)
            whole.append(images)
        return whole

    def _copy(self) -> "Gaussians":
        copied = Gaussians(self.shapes, epsilon=self.epsilon, dtype=self.dtype, device=self.device)
        copied._pending = list(self._pending)
        copied._statistics = self._statistics.clone() if self._statistics else None
        return copied


def _check(name: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
        found = "nothing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise ValueError(f"{name}: expected {dtype} {shape}, found {found}")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{name} has values that are NaN or infinite")
