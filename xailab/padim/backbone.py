"""Run a network up to the last of some layers."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab.hooks import eval_mode, find_layer, recording, unwrapped

Layer = nn.Module | str
CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.GroupNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)  # their outputs are (n, channels, rows, columns) by definition
SMALLEST = 64  # shorter side of the halved picture, in pixels


class Backbone:
    """Record the outputs of some layers, and leave the network as it was.

    Args:
        network: Any network. It runs in eval mode, without a graph, on its own device and in its own precision.
        layers: Layers or their dotted names.

    Raises:
        ValueError: if there is no such layer, one is named twice, or none is named.
    """

    def __init__(self, network: nn.Module, layers: Layer | Sequence[Layer]) -> None:
        layers = [layers] if isinstance(layers, (str, nn.Module)) else layers
        self.network = unwrapped(network)
        found = [find_layer(self.network, layer) for layer in layers]
        self.names = tuple(name for name, _ in found)
        if not found or len({module for _, module in found}) != len(found):
            raise ValueError(f"expected one layer or several different ones, got {self.names}")
        self._order: list[str] = []
        self._channels_last: dict[str, bool] = {}  # known once the network has run

    @property
    def like(self) -> Tensor:
        """One parameter, which has the network's device and precision."""
        return next((x for x in self.network.parameters() if x.is_floating_point()), torch.empty(0))

    def outputs(self, images: Float[Tensor, "n _c _h _w"]) -> list[Float[Tensor, "n _k _rows _columns"]]:
        """Run the network and return the output of each layer, in single precision at least.

        The first time it runs as a whole, and shows in which order it calls the layers; from then on it stops after
        the last call. The first time it runs on one picture of another size, too, to see which dimension of an output
        is its channels; those of layers that have them last (Swin's) are moved.

        Raises:
            ValueError: if a layer is not called, its output has no rows and columns, or which dimension is its channels
                cannot be told.

        Warns:
            UserWarning: where rows : columns of a layer is not height : width of the pictures.
        """
        outputs = self._run(images)
        for name in self.names:
            if name not in outputs:
                raise ValueError(f"the network does not call layer {name!r}: choose another")
            if outputs[name].ndim != 4 or len(outputs[name]) != len(images):
                raise ValueError(f"layer {name!r} puts out shape {tuple(outputs[name].shape)}: {WANTED}")
        if not self._channels_last:
            self._channels_last = self._layouts(images, outputs)
        moved = [x.permute(0, 3, 1, 2) if self._channels_last[name] else x for name, x in outputs.items()]
        return [x if x.dtype == torch.float64 else x.float() for x in moved]

    def _run(self, images: Float[Tensor, "n _c _h _w"]) -> dict[str, Tensor]:
        """Return the outputs of those layers that are called, in the order of the names."""
        calls: list[str] = []

        def count(name: str) -> None:
            calls.append(name)
            if calls == self._order:
                raise _Enough

        with ExitStack() as stack:
            for context in (torch.inference_mode(False), torch.no_grad(), eval_mode(self.network)):
                stack.enter_context(context)
            outputs = stack.enter_context(recording(self.network, *self.names))
            for name in self.names:  # hooks run in the order in which they were added: recorded first, then counted
                layer = find_layer(self.network, name)[1]
                stack.callback(layer.register_forward_hook(lambda *_, name=name: count(name)).remove)
            with suppress(_Enough):
                self.network((images.clone() if images.is_inference() else images).to(self.like))
        self._order = calls
        return {name: outputs[name] for name in self.names if name in outputs}

    def _layouts(self, images: Float[Tensor, "n _c _h _w"], outputs: dict[str, Tensor]) -> dict[str, bool]:
        """Return whether each layer has its channels last, and warn where its grid is not shaped as the picture."""
        modules = {name: find_layer(self.network, name)[1] for name in self.names}
        others = {}
        if not all(isinstance(module, CHANNELS_FIRST) for module in modules.values()):
            others = self._at_another_size(images)
        size, found = tuple(images.shape[2:]), {}
        for name, module in modules.items():
            shape = tuple(outputs[name].shape[1:])
            other = tuple(others[name].shape) if name in others else (1, *shape)
            if len(other) != 4 or other[0] != 1:
                raise ValueError(f"layer {name!r} puts out shape {other} for one picture of another size: {WANTED}")
            last = not isinstance(module, CHANNELS_FIRST) and _has_channels_last(name, module, shape, other[1:], size)
            rows, columns = shape[:2] if last else shape[1:]
            if rows * columns == 1:
                raise ValueError(
                    f"layer {name!r} puts out shape {tuple(outputs[name].shape)} for pictures of {size[0]} x {size[1]} "
                    "pixels, which has no rows and columns: choose a layer before the network pools it, or larger "
                    "pictures"
                )
            if not _share((rows, columns), size):
                warnings.warn(
                    f"layer {name!r} has {rows} x {columns} cells for pictures of {size[0]} x {size[1]} pixels: not "
                    "the same rows : columns. Maps are stretched to the picture, so look whether a defect that you "
                    "know is found at its place",
                    stacklevel=2,
                )
            found[name] = last
        return found

    def _at_another_size(self, images: Float[Tensor, "n _c _h _w"]) -> dict[str, Tensor]:
        """Return the outputs for one black picture of half or twice the size; none where the network refuses both."""
        sides = images.shape[2:]
        halves = [tuple(side // 2 for side in sides)] if min(sides) >= 2 * SMALLEST else []
        for size in (*halves, tuple(2 * side for side in sides)):
            order = self._order
            with suppress(Exception):  # whatever keeps a network from another size
                return self._run(images.new_zeros(1, images.shape[1], *size))
            self._order = order
        return {}


WANTED = "choose one whose output is (n, channels, rows, columns) or (n, rows, columns, channels)"


def _has_channels_last(
    name: str, module: nn.Module, shape: tuple[int, ...], other: tuple[int, ...], size: tuple[int, ...]
) -> bool:
    """Return whether an output without its images is (rows, columns, channels) rather than (channels, rows, columns).

    Channels are the dimension that does not change with the picture's size. Where none changes, since the network
    takes one size only or pools to a fixed grid, rows and columns are the two that share the picture's ratio; a layer
    that holds a convolution is then not believed to have its channels last.

    Raises:
        ValueError: if neither tells.
    """
    changes = tuple(a != b for a, b in zip(shape, other, strict=True))
    if changes == (False, True, True):
        return False
    if changes == (True, True, False):
        return True
    if not any(changes):
        first, last = _share(shape[1:], size), _share(shape[:2], size)
        convolves = any(isinstance(each, nn.modules.conv._ConvNd) for each in module.modules())
        if first != last and not (last and convolves):
            return last
    compared = "whatever the picture's size" if shape == other else f"and {other} for pictures of another size"
    raise ValueError(
        f"layer {name!r} puts out {shape} for each picture, {compared}, so that its channels cannot be told from its "
        "rows and columns: choose another layer, or one inside it, or put a module in its place whose output is (n, "
        "channels, rows, columns)"
    )


def _share(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Return whether a grid has the ratio of a picture's sides, up to a cell."""
    (rows, columns), (height, width) = grid, size
    return abs(rows * width - columns * height) <= max(height, width)


class _Enough(Exception):
    """Stop the network: the last of the layers has run."""
