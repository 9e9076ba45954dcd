"""The exercises: their cases, their wrong answers, and their checks."""

import math
import warnings
from fractions import Fraction
from numbers import Real

import torch
from torch import nn

from xailab.flops import UncountedOperation, conv_cost, count, separable_cost
from xailab.lessons import Wrong, exercise
from xailab.lessons.flops.drawings import gain
from xailab.lessons.flops.published import RESOLUTIONS, TENSORFLOW, mobilenet

# kernel, in, out, size, stride, padding, groups; the last three differ so that each mistake shows alone.
_LAYERS = (
    (3, 5, 7, 6, 1, 0, 1),
    (3, 16, 24, 20, 1, 1, 1),
    (3, 3, 32, 224, 2, 1, 1),
    (5, 12, 24, 15, 1, 2, 4),
    (3, 64, 64, 14, 1, 1, 64),
)


# Gain and kernel. Some gains lie so near K² that a search among the first numbers does not get there.
_GAINS = (("2", 2), ("2", 3), ("4", 3), ("8", 3), ("8.8", 3), ("9", 3), ("20", 3), ("20", 5), ("3", 1),
          ("8.9993", 3), ("960.24", 31), ("24.93", 5), ("25", 5))  # fmt: skip


def _number(came) -> float:
    """Take a reader's number, of any library; it may be infinite, or not a number."""
    came = came.item() if hasattr(came, "item") else came
    if isinstance(came, bool) or not isinstance(came, Real):
        raise Wrong(f"return one number; this is {type(came).__name__}.")
    return came if isinstance(came, (int, float)) else float(came)


def _whole(came: float) -> bool:
    return math.isfinite(came) and came == int(came)


@exercise("01.1")
def _(macs):
    for kernel, m, n, size, stride, padding, groups in _LAYERS:
        with torch.device("meta"):
            layer = nn.Conv2d(m, n, kernel, stride, padding, groups=groups)
        right = count(layer, (1, m, size, size)).macs
        out = (size + 2 * padding - kernel) // stride + 1
        came = _number(macs(kernel, m, n, size, stride, padding, groups))
        if came == right:
            continue
        one = kernel * kernel * m * n  # the weights, groups left out
        outputs = {  # where two mistakes give one size, the last line speaks
            size: "this uses the size of the input; a filter is applied once for each output value.",
            size - kernel + 1: "stride and padding are missing: output = (size + 2 padding - K) // stride + 1.",
            (size + 2 * padding - kernel) // stride: "the output size ends with + 1: the first position counts too.",
            (size + padding - kernel) // stride + 1: "the padding is there on both sides: 2 padding.",
            -((kernel - size - 2 * padding) // stride) + 1: "the output size is rounded down: no filter is half there.",
            (size - kernel) // stride + 1: "the padding is missing: it adds pixels on both sides.",
            size + 2 * padding - kernel + 1: "the stride is missing: the kernel jumps.",
        }
        hints = {one * size**2: outputs[size]}
        hints |= {one * wrong**2 // groups: words for wrong, words in outputs.items() if wrong != out}
        hints |= {
            2 * right: "these are FLOPs; one MAC is one multiplication and one addition, so divide by 2.",
            one * out**2: "the groups are missing: with g groups a filter sees only M / g channels.",
            one * out**2 // groups**2: "divide by the groups once: M / g channels in, but still N out.",
            right // kernel: "this has K once; a kernel is K high and K wide.",
            one // groups: "these are the weights; each of them is used once for each output position.",
            right // out: "this has the output's height or width once; it needs both.",
            one * ((size + 2 * padding - kernel) / stride + 1) ** 2 / groups: (
                "the output size is rounded down, with //: a window that is half there does not count."
            ),
        }
        if not _whole(came):
            raise Wrong(f"{came:,} is no whole number of MACs: the output size is rounded down, with //.")
        layer = f"K={kernel}, M={m}, N={n}, size {size}, stride {stride}, padding {padding}, groups {groups}"
        raise Wrong(
            f"{layer}: expected {right:,} MACs, got {came:,}. {hints.get(came, 'Write D_G first, then the product.')}"
        )
    return "standard, grouped and depthwise are one formula with another number of groups."


@exercise("01.2")
def _(channels_for):
    for written, kernel in _GAINS:
        wanted, most = Fraction(written), kernel**2
        right = math.ceil(wanted * most / (most - wanted)) if wanted < most else math.inf
        came = _number(channels_for(float(wanted), kernel))
        if came == right:
            continue
        where = f"a gain of {written} with K={kernel}: expected {right}, got {came}."
        if right == math.inf:
            raise Wrong(f"{where} The gain stays below K² = {most} however many channels there are: return math.inf.")
        if came == math.inf:
            raise Wrong(
                f"{where} The gain stays below K² = {most}, but {right} channels do reach {written}: a search over N "
                "has no end that fits all gains; solve 1 / (1/N + 1/K²) = gain for N."
            )
        if math.isfinite(came) and not _whole(came):
            raise Wrong(f"{where} Channels are whole: round up.")
        if came == right - 1:
            raise Wrong(
                f"{where} With {came} channels the gain is {gain(came, kernel):.9g}, which is too little: round up."
            )
        if came == right + 1:
            raise Wrong(f"{where} With {right} channels the gain is {written} already: it may be reached, not passed.")
        raise Wrong(f"{where} Solve 1 / (1/N + 1/K²) >= gain for N.")
    return "no number of channels buys more than K², which is why the gain of MobileNet's layers stays below 9."


# in, out, kernel, groups, and whether the pair needs at most half of the MACs.
_CHOICES = (
    (64, 64, 3, 1, True),
    (64, 256, 1, 1, False),
    (64, 1, 3, 1, False),
    (128, 128, 3, 128, False),
    (3, 64, 7, 1, True),
    (64, 2, 3, 1, False),
    (64, 3, 3, 1, True),
    (256, 256, 3, 4, True),
    (256, 256, 3, 32, False),
    (16, 64, 2, 1, True),
    (2, 64, 3, 1, True),
)
_MISTAKES = (
    ("look at N and K alone: a 1 × 1 kernel is already pointwise", lambda m, n, k, g: n > 1),
    ("the output channels matter: with N = 2 the term 1/N alone is a half", lambda m, n, k, g: k > 1),
    (
        "count the groups: they make the standard layer cheaper, but not the pair",
        lambda m, n, k, g: 1 / n + 1 / k**2 <= 0.5,
    ),
    ("1/N has the output channels; the input channels M cancel", lambda m, n, k, g: g * (1 / m + 1 / k**2) <= 0.5),
    ("at most half: this asks for less than the whole", lambda m, n, k, g: g * (1 / n + 1 / k**2) < 1),
)


@exercise("01.3")
def _(my_choice):
    layers = [nn.Conv2d(m, n, kernel, groups=groups) for m, n, kernel, groups, _ in _CHOICES]
    came = my_choice(layers)
    try:
        chosen = [int(i) for i in came]
    except (TypeError, ValueError):
        raise Wrong(f"return a list of places, such as [0, 2], not {came!r:.60}.") from None
    if any(isinstance(i, bool) for i in came):
        raise Wrong("return a list of places, such as [0, 2], not True or False for each layer.")
    right = [i for i, choice in enumerate(_CHOICES) if choice[-1]]
    if sorted(set(chosen)) == right:
        return "kernel, output channels and groups decide; neither the picture's size nor the input channels do."
    for hint, mistaken in _MISTAKES:
        if sorted(set(chosen)) == [i for i, choice in enumerate(_CHOICES) if mistaken(*choice[:4])]:
            raise Wrong(f"{hint}.")
    first = next((i for i in range(len(layers)) if (i in chosen) != _CHOICES[i][-1]), None)
    if first is None:
        raise Wrong(
            f"there are {len(layers)} layers, 0 to {len(layers) - 1}; you chose {sorted(set(chosen) - set(right))}."
        )
    m, n, kernel, groups, worth = _CHOICES[first]
    pair = separable_cost(m, n, kernel, 1).macs / conv_cost(m, n, kernel, 1, groups=groups).macs
    said = "missing" if worth else "one too many"
    raise Wrong(
        f"layer {first} is {said}: M={m}, N={n}, K={kernel}, groups={groups}. The pair needs {pair:.2f} of its MACs."
    )


_BLIND_SHAPE, _BLIND_MACS = (1, 8, 16, 16), 10_000


def _seen_by_hooks(network: nn.Module) -> dict[str, int]:
    """Count as `macs_by_hooks` of the lesson does, by module."""
    seen: dict[str, int] = {}
    hooks = []
    for name, module in network.named_modules():

        def note(module, inputs, output, name=name):
            if isinstance(module, nn.Conv2d):
                seen[name] = output.numel() * module.weight[0].numel()
            elif isinstance(module, nn.Linear):
                seen[name] = output.numel() * module.in_features

        hooks.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            network(torch.zeros(_BLIND_SHAPE))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: macs for name, macs in seen.items() if macs}


@exercise("01.4")
def _(my_network):
    network = my_network()
    if not isinstance(network, nn.Module):
        raise Wrong(f"return a network, an nn.Module; this is {type(network).__name__}.")
    network = network.eval()
    try:
        seen = _seen_by_hooks(network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncountedOperation)
            table = count(network, _BLIND_SHAPE)
    except (RuntimeError, ValueError, TypeError) as error:
        raise Wrong(f"the network does not run on an input of shape {_BLIND_SHAPE}: {error}") from error
    if seen:
        where = ", ".join(f"{name or 'the network itself'} ({macs:,} MACs)" for name, macs in seen.items())
        raise Wrong(f"the hooks do see {where}: nn.Conv2d and nn.Linear are the modules that they know.")
    if table.unknown and table.macs < _BLIND_MACS:
        raise Wrong(
            f"count does not know what {', '.join(table.unknown)} costs, and says so in a warning. Use an operation of "
            "known cost: a convolution or a product of matrices."
        )
    if not table.macs:
        raise Wrong("count finds no MACs either: only operations that sum products have any. Multiply matrices.")
    if table.macs < _BLIND_MACS:
        raise Wrong(f"{table.macs:,} MACs are hidden from the hooks; hide at least {_BLIND_MACS:,}.")
    return f"the hooks see 0 of {table.macs:,} MACs. A counter that prints 0 has not shown that nothing was computed."


@exercise("01.5")
def _(as_counted):
    for size, published in ((size, TENSORFLOW[0.75, size][0]) for size in RESOLUTIONS):
        table = mobilenet(0.75, size)
        right = table.macs - table.rows[0].macs
        came = _number(as_counted(table))
        if abs(came - right) < 1:
            continue
        where = f"0.75-{size}: got {came:,.0f} MACs, TensorFlow printed {published} million."
        if came == table.macs:
            raise Wrong(f"{where} That is the whole network; which row is as large as the difference?")
        if came == table.macs - table.rows[-1].macs:
            raise Wrong(f"{where} That leaves out the linear layer, which does not depend on the size; the gap does.")
        if abs(came - right / 1e6) < 1:
            raise Wrong(f"{where} Return MACs, not millions of them.")
        if came == table.rows[0].macs:
            raise Wrong(f"{where} You found the row that is missing: now return what is left without it.")
        if came == 2 * right:
            raise Wrong(f"{where} These are FLOPs, 2 for each MAC.")
        raise Wrong(f"{where} Print the gap for each size beside the MACs of each row of the table.")
    return "all four rows round to the printed numbers: the first convolution was left out."


@exercise("01.6")
def _(separable):
    for m, n, kernel, stride, padding in ((5, 7, 3, 1, 0), (8, 16, 3, 2, 1), (6, 4, 5, 1, 2), (3, 9, 3, 3, 2)):
        layer, shape = nn.Conv2d(m, n, kernel, stride, padding, bias=False), (1, m, 12, 12)
        where = f"{m} -> {n} channels, K={kernel}, stride {stride}, padding {padding}:"
        pair, wanted = separable(layer), count(layer, shape).rows[0].output_shape
        if not isinstance(pair, nn.Module):
            raise Wrong(f"{where} expected an nn.Sequential of two layers, got {type(pair).__name__}.")
        depthwise = next((part for part in pair.modules() if getattr(part, "groups", 1) > 1), None)
        if depthwise is not None and depthwise.kernel_size != layer.kernel_size:
            raise Wrong(f"{where} the depthwise layer keeps the kernel of {kernel} × {kernel}.")
        try:
            table = count(pair, shape)
        except ValueError as error:
            hint = f"the layers do not fit together; the depthwise one keeps the {m} channels. ({error.__cause__})"
            raise Wrong(f"{where} {hint}") from error
        kinds = [row.kind for row in table.rows]
        if kinds != ["depthwise", "pointwise"]:
            hint = "" if "depthwise" in kinds else " The first needs groups=M."
            raise Wrong(f"{where} expected a depthwise and then a pointwise layer, got {' and '.join(kinds)}.{hint}")
        came = table.rows[-1].output_shape
        if came != wanted:
            unpadded, unstrided = (12 - kernel) // stride + 1, 12 + 2 * padding - kernel + 1
            hint = {
                unpadded: "the depthwise layer keeps the padding.",
                unstrided: "the depthwise layer keeps the stride.",
                wanted[-1] + 2 * padding: "the pointwise layer needs no padding.",
            }.get(came[-1], "stride and padding are the given layer's, and belong to the depthwise layer alone.")
            raise Wrong(f"{where} expected an output of {wanted}, got {came}: {hint}")
        right = separable_cost(m, n, kernel, wanted[-1])
        if table.macs != right.macs:
            hint = "the stride belongs to the depthwise layer, so that the pointwise one works on the small map."
            raise Wrong(f"{where} expected {right.macs:,} MACs, got {table.macs:,}: {hint}")
    return "the same shapes for a fraction of the MACs."
