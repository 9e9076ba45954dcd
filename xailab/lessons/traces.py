"""Find out what an answer changes in its arguments and which functions it calls, for the checks of the exercises."""

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
    """Describe what a call of an answer changed in its arguments; None if they are unchanged.

    Args:
        answer: The function, whose parameters have names.
        before, after: Positional and named arguments, before and after the call.
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
        parameters = inspect.signature(answer).parameters.values()
    except (TypeError, ValueError):  # a function of a library may have none to look at
        parameters = ()
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    names += [f"argument {i + 1}" for i in range(len(names), len(before[0]))]
    named = [(name, value, after[1][name]) for name, value in before[1].items()]
    return [*zip(names, before[0], after[0], strict=False), *named]


def _equal(a: Any, b: Any) -> bool:
    """Compare two arguments: numbers, tensors, arrays, data classes, and collections of these."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (int, float, str)):
        return a == b or a != a
    if isinstance(a, (Tensor, np.ndarray)):
        return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | ((a != a) & (b != b))).all())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, nn.Module):
        return _changed_network(a, b) is None
    if is_dataclass(a):
        return all(_equal(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return True  # a function, or another object whose values are not compared


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
    """Watch the functions that an answer calls while this context is open.

    Attributes:
        torch: Names of the torch functions that were called, operators and methods too.
        python: Names of the Python functions that were called, and of the files they stand in.
        steps: Number of lines run outside of libraries, and of calls made from there; only loops make it grow with the
            data.
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
        """Select those of these functions that were called, of torch or in Python."""
        return set(names) & (self.torch | {name for name, _ in self.python})

    def uses(self, *packages: str) -> bool:
        """Tell whether a function of one of these packages was called; "xailab" leaves out its lessons."""
        folders = [PACKAGE if name == "xailab" else f"{LIBRARIES[0]}/{name}/" for name in packages]
        return any(folder in file and LESSONS not in file for folder in folders for _, file in self.python)


@cache
def _is_readers(file: str) -> bool:
    """Tell whether a file is neither Python's, nor a library's, nor one of this package."""
    return not (file.startswith((STDLIB, PACKAGE, "<frozen")) or any(n in file for n in LIBRARIES))


def watched(answer: Callable, *args) -> Watch:
    """Call an answer, and return what it called."""
    with Watch() as seen:
        answer(*args)
    return seen
