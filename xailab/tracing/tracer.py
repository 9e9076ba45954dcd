"""Intercept the operations of a forward pass, as they reach the dispatcher of torch."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from xailab.hooks import unwrapped
from xailab.tracing.operations import META, takes_device, tensors_in
from xailab.tracing.skeleton import Skeleton

FORWARD_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


class Tracer(TorchDispatchMode):
    """Intercept every operation of a skeleton's forward pass, and know which module calls it.

    A subclass defines in ``operation`` what happens with each. Tensors that the skeleton does not hold, such as those
    in global variables, are replaced by copies without values.

    Attributes:
        stack: Names of the modules that are running, the innermost last.
        origin: The module in which an exception was raised.
        failed: The hook, as (module, number), in which an exception was raised.

    Args:
        skeleton: The copied network that will run.
        left_out: Hooks that are not called, as (module, number).
    """

    def __init__(self, skeleton: Skeleton, left_out: Iterable[tuple[str, int]] = ()) -> None:
        super().__init__()
        self.network = skeleton.network
        self.stack = [""]
        self.origin: dict[BaseException, str] = {}
        self.failed: dict[BaseException, tuple[str, int]] = {}
        self._strays: dict[int, tuple[Tensor, Tensor]] = {}
        left_out = set(left_out)
        for name, module in self.network.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                self._watch(name, module, left_out)

    def _watch(self, name: str, module: nn.Module, left_out: set[tuple[str, int]]) -> None:
        """Note when a module's forward pass and its hooks run, and remove the hooks that are left out."""
        inside = unwrapped(module)
        forward = module.forward if inside is module else inside.__call__
        vars(module)["forward"] = self._running(forward, name)
        for hooks in (vars(module).get(each, {}) for each in FORWARD_HOOKS):
            for number, hook in list(hooks.items()):
                if (name, number) in left_out:
                    del hooks[number]
                else:
                    hooks[number] = self._running(hook, name, number)

    def operation(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Do an operation whose tensors are all on the meta device; NotImplemented to see its parts instead."""
        raise NotImplementedError

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = tensors_in((*args, *kwargs.values()))
        if not all(x.is_meta for x in tensors):
            if not any(x.is_meta for x in tensors) and not func._schema.is_mutable:
                return func(*args, **kwargs)  # a constant that the network makes: its values are known
            args, kwargs = self._joined(args), {name: self._joined(value) for name, value in kwargs.items()}
        args, kwargs = _without_values(func, args, kwargs, creates=not tensors)
        out = self.operation(func, args, kwargs)
        if out is NotImplemented:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is NotImplemented:
                out = self.unknown_operation(func, args, kwargs)
        return out

    def unknown_operation(self, func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Do an operation that has no parts and that ``operation`` does not know."""
        return func(*args, **kwargs)

    def _joined(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(self._joined(each) for each in value)
        if not isinstance(value, Tensor) or value.is_meta:
            return value
        if id(value) not in self._strays:
            self._strays[id(value)] = (value, self.joined(value, torch.empty_like(value, device=META)))
        return self._strays[id(value)][1]

    def joined(self, original: Tensor, empty: Tensor) -> Tensor:
        """Return the copy without values of a tensor that the skeleton does not hold."""
        return empty

    def _running(self, function: Callable, name: str, hook: int | None = None) -> Callable:
        """Wrap a function: the module's name is on top of the stack while it runs."""

        @functools.wraps(function, updated=())
        def call(*args, **kwargs):
            self.stack.append(name)
            try:
                return function(*args, **kwargs)
            except Exception as error:
                self.origin.setdefault(error, name)
                if hook is not None and error not in self.failed:
                    self.failed[error] = (name, hook)
                raise
            finally:
                self.stack.pop()

        return call


def _without_values(
    func: torch._ops.OpOverload, args: tuple, kwargs: dict[str, Any], *, creates: bool
) -> tuple[tuple, dict[str, Any]]:
    """Send an operation to the meta device, and leave out its generator: no values are drawn."""
    if takes_device(func):
        args = tuple(META if isinstance(value, torch.device) else value for value in args)
        if kwargs.get("device") is not None or creates:
            kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"} | {"device": META}
    if kwargs.get("generator") is not None:
        kwargs = {**kwargs, "generator": None}
    return args, kwargs
