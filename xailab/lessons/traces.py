"""What an answer leaves behind on its arguments, and what it does on the way, for the checks of the exercises."""

import inspect
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PACKAGE = str(Path(__file__).parents[1])
LESSONS = str(Path(__file__).parent)
STDLIB = sysconfig.get_path("stdlib")
LIBRARIES = ("site-packages", "dist-packages")


def left_behind(answer: Callable, before: tuple[tuple, dict], after: tuple[tuple, dict]) -> str | None:
    """Say what a call of an answer changed in its arguments, or None if they are as they were.

    Args:
        answer: For the names of its parameters.
        before, after: Positional and named arguments, as they were given and as they are after the call.
    """
    for name, was, now in _named(answer, before, after):
        if isinstance(was, nn.Module):
            if changed := _changed_network(was, now):
                return changed
        elif not _equal(was, now):
            copy = {Tensor: f"{name}.clone()", np.ndarray: f"{name}.copy()", list: f"list({name})"}
            how = next((how for kind, how in copy.items() if isinstance(now, kind)), "a copy")
            return f"it changed `{name}`, which belongs to whoever calls the function: work on {how}."
    return None


def _named(answer: Callable, before: tuple[tuple, dict], after: tuple[tuple, dict]) -> list[tuple[str, Any, Any]]:
    try:
        was, now = (inspect.signature(answer).bind(*args, **named).arguments for args, named in (before, after))
    except (TypeError, ValueError):  # a function without a signature, or one that cannot take these arguments
        was, now = (dict(enumerate((*args, *named.values()), 1)) for args, named in (before, after))
    return [(name if isinstance(name, str) else f"argument {name}", was[name], now[name]) for name in was]


def _equal(a: Any, b: Any) -> bool:
    """Whether two arguments hold the same: tensors, arrays, data classes, and lists, tuples and dicts of these."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, nn.Module):
        return _changed_network(a, b) is None
    if is_dataclass(a):
        return all(_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return True  # functions, and what has no values of its own to change


def _changed_network(was: nn.Module, now: nn.Module) -> str | None:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = list(zip(was.modules(), now.modules(), strict=False))
    if repr(was) != repr(now):
        return "it changed the network's layers, and the next cell uses that network: work on copy.deepcopy of it."
    if any(a.training != b.training for a, b in modules):
        return "it left the network in another mode than it got it in: explain it as it is, in eval mode."
    if any(len(getattr(a, kind)) != len(getattr(b, kind)) for a, b in modules for kind in hooks):
        return "a hook was left on the network: keep the handle, and call its remove() when you are done."
    if any(vars(a).keys() != vars(b).keys() for a, b in modules):
        return "it put something of its own on the network (a method or an attribute) and left it there."
    weights = list(zip(was.parameters(), now.parameters(), strict=True))
    if any((a.grad is None) != (b.grad is None) for a, b in weights):
        return ".grad was left on the network's weights: torch.autograd.grad leaves none."
    if any(a.requires_grad != b.requires_grad for a, b in weights):
        kind = "off" if any(a.requires_grad and not b.requires_grad for a, b in weights) else "on"
        return f"requires_grad of the network's weights was switched {kind}, and left so: switch nothing on a network."
    if any(getattr(b, "_backward_hooks", None) for _, b in weights):
        return "a hook was left on the network's weights: keep the handle, and call its remove() when you are done."
    if not all(_equal(a.detach(), b.detach()) for a, b in weights):
        return "it changed the network's weights: an explanation leaves them as they are."
    if not all(map(_equal, was.buffers(), now.buffers())):
        return "it changed the network's running statistics: explain a network in eval mode."
    return None


class Watch(TorchFunctionMode):
    """What an answer does while this context is open.

    Attributes:
        torch: Names of the torch functions that were called, operators and methods too.
        python: Names of the Python functions that were called, and of the files they stand in.
        steps: Lines that were run in files of no library, and calls made from there; it grows with what a loop goes
            over, and with nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.torch: set[str] = set()
        self.python: set[tuple[str, str]] = set()
        self.steps = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.torch.add(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> "Watch":
        self._tracer = sys.gettrace()
        super().__enter__()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exception) -> None:
        sys.settrace(self._tracer)
        super().__exit__(*exception)

    def _trace(self, frame, event, argument):
        self.python.add((frame.f_code.co_name, frame.f_code.co_filename))
        own = _is_readers(frame.f_code.co_filename)
        self.steps += own or (frame.f_back is not None and _is_readers(frame.f_back.f_code.co_filename))
        return self._line if own else None

    def _line(self, frame, event, argument):
        self.steps += event == "line"
        return self._line

    def calls(self, *names: str) -> set[str]:
        """Which of these functions were called, of torch or in Python."""
        return set(names) & (self.torch | {name for name, _ in self.python})

    def uses(self, *packages: str) -> bool:
        """Whether a function of one of these packages was called; "xailab" leaves out its lessons."""
        folders = [PACKAGE if name == "xailab" else f"{LIBRARIES[0]}/{name}/" for name in packages]
        return any(folder in file and LESSONS not in file for folder in folders for _, file in self.python)


@cache
def _is_readers(file: str) -> bool:
    """Whether a file is neither Python's, nor a library's, nor one of this package."""
    return not (file.startswith((STDLIB, PACKAGE, "<frozen")) or any(n in file for n in LIBRARIES))


def watched(answer: Callable, *args) -> Watch:
    """Call an answer, and return what it did."""
    with Watch() as seen:
        answer(*args)
    return seen
