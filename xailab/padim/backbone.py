"""A network up to the last of some layers."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xailab.hooks import evaluating, find_layer, recording, unwrapped

Layer = nn.Module | str


class Backbone:
    """Gives the outputs of some layers, and leaves the network as it was.

    Args:
        network: Any network; it runs in eval mode, without a graph, on its own device and in its own precision.
        layers: Layers or their dotted names.

    Raises:
        ValueError: if there is no such layer, one is named twice, or none is named.
    """

    def __init__(self, network: nn.Module, layers: Layer | Sequence[Layer]) -> None:
        layers = [layers] if isinstance(layers, (str, nn.Module)) else layers
        self.network = unwrapped(network)
        self.names = tuple(find_layer(self.network, layer)[0] for layer in layers)
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"expected one layer or several different ones, got {self.names}")
        self._order: list[str] = []

    @property
    def like(self) -> Tensor:
        """A parameter, which tells the network's device and precision."""
        return next((x for x in self.network.parameters() if x.is_floating_point()), torch.empty(0))

    def outputs(self, images: Float[Tensor, "n _c _h _w"]) -> list[Float[Tensor, "n _k _rows _columns"]]:
        """Run the network and return what each layer puts out, in single precision at least.

        The first time it runs as a whole, and shows in which order it calls the layers; from then on it stops behind
        the last call.

        Raises:
            ValueError: if a layer is not called, or its output is not (n, channels, rows, columns).
        """
        calls: list[str] = []

        def count(name: str) -> None:
            calls.append(name)
            if calls == self._order:
                raise _Enough

        with ExitStack() as stack:
            for context in (torch.inference_mode(False), torch.no_grad(), evaluating(self.network)):
                stack.enter_context(context)
            outputs = stack.enter_context(recording(self.network, *self.names))
            for name in self.names:  # hooks run in the order in which they were added: recorded first, then counted
                layer = find_layer(self.network, name)[1]
                stack.callback(layer.register_forward_hook(lambda *_, name=name: count(name)).remove)
            with suppress(_Enough):
                self.network((images.clone() if images.is_inference() else images).to(self.like))
        self._order = calls
        for name in self.names:
            if name not in outputs:
                raise ValueError(f"the network does not call layer {name!r}: choose another")
            if outputs[name].ndim != 4 or len(outputs[name]) != len(images):
                raise ValueError(
                    f"layer {name!r} puts out shape {tuple(outputs[name].shape)}: choose one whose output is (n, "
                    "channels, rows, columns)"
                )
        return [x if x.dtype == torch.float64 else x.float() for x in map(outputs.get, self.names)]


class _Enough(Exception):
    """The last of the layers has run: what lies behind it need not."""
