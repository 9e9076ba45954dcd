"""Run a network without its numbers, and see every operation that it does.

The network itself is never called: a copy of its structure runs, whose tensors lie on torch's meta device, where they
have a shape and a type and no values. This takes milliseconds and no memory for a network of any size, and whoever
asks for values gets an error instead of a wrong answer.
"""

import contextlib
import copy
import functools
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from xailab.hooks import QUANTISED, unwrapped

META = torch.device("meta")
ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type, range, slice, torch.Size, torch.dtype, torch.device}
)
FORWARD_HOOKS = ("_forward_pre_hooks", "_forward_hooks")
LIBRARIES = frozenset({"torch", "torchvision", "functools", "contextlib"})
STATEFUL = frozenset({"numpy", "random"})  # a forward pass may change arrays and draw from generators
UNTAGGED = frozenset({"hardswish", "prelu", "_prelu_kernel", "log_sigmoid_forward", "log_sigmoid", "softsign", "relu6"})


def is_pointwise(operation: torch._ops.OpOverload) -> bool:
    """Whether each value that an operation puts out depends on the values at the same place alone."""
    return torch.Tag.pointwise in operation.tags or name_of(operation).removeprefix("aten::").rstrip("_") in UNTAGGED


@functools.cache
def name_of(operation: torch._ops.OpOverload) -> str:
    """The name of an operation with its namespace, such as ``aten::convolution``; overloads share it."""
    return operation._schema.name


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among the arguments of an operation, also those in lists."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
    return found


def storage_of(x: Tensor) -> int:
    """A number for the memory of a tensor, which its views share."""
    return x.untyped_storage()._cdata


class Skeleton:
    """A copy of a network in eval mode, with every tensor on the meta device.

    Modules, tensors, containers, plain objects and the network's own hooks are copied together, so that a hook that
    writes into a dict which the network reads does so in the copy, too: what functions refer to (closures, defaults,
    bound objects, globals) are the copies. What cannot be copied and holds no tensors, such as a generator, a lock or
    a file, is shared.

    Args:
        model: The network; wrappers such as ``DataParallel`` are taken off.

    Attributes:
        network: The copy.

    Raises:
        ValueError: if a layer is quantised.
    """

    def __init__(self, model: nn.Module) -> None:
        _check_not_quantised(model)
        self._copies: dict[int, Any] = {}
        self._originals: list[Any] = []  # they live as long as their ids are keys
        self._pending: deque[Callable[[], None]] = deque()
        self._shared: dict[int, set[str]] = {}  # of each file, the names that copied functions use
        self.network: nn.Module = self.copy_of(unwrapped(model))
        self._fill()
        self._rebind_methods()
        modules = list(self.network.modules())
        if any(type(m).train is not nn.Module.train or type(m).eval is not nn.Module.eval for m in modules):
            self.network.eval()
        for module in modules:
            if isinstance(module, torch.jit.ScriptModule):
                module.eval()
            vars(module)["training"] = False

    def copy_of(self, value: Any) -> Any:
        """The copy that stands for an object of the original network."""
        kind = type(value)
        if kind in ATOMS or isinstance(value, type):
            return value
        if id(value) not in self._copies:
            made = self._copies[id(value)] = self._make(value, kind)
            self._originals.append(value)
            return made
        return self._copies[id(value)]

    def _fill(self) -> None:
        while self._pending:
            self._pending.popleft()()

    def _later(self, value: Any, made: Any, fill: Callable[[Any, Any], None]) -> Any:
        """Register a copy that is still empty: whatever refers to it finds it while it is filled."""
        self._pending.append(lambda: fill(value, made))
        return made

    def _make(self, value: Any, kind: type) -> Any:
        if isinstance(value, Tensor):
            return _weightless(value)
        if isinstance(value, torch.jit.ScriptModule):
            return copy.deepcopy(value)
        if isinstance(value, nn.Module):
            return self._later(value, object.__new__(kind), self._fill_module)
        if isinstance(value, (list, deque, set, dict)):
            return self._container(value)
        if isinstance(value, (tuple, frozenset)):
            items = [self.copy_of(item) for item in value]
            return kind(*items) if hasattr(kind, "_fields") else kind(items)
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.CellType:  # a variable of an enclosing function
            return self._later(value, types.CellType(), self._fill_cell)
        if kind is types.MethodType:
            return types.MethodType(self.copy_of(value.__func__), self.copy_of(value.__self__))
        if kind in (types.BuiltinMethodType, types.MethodWrapperType):
            owner = self.copy_of(value.__self__)
            return value if owner is value.__self__ else getattr(owner, value.__name__)
        if kind is functools.partial:
            keywords = {name: self.copy_of(each) for name, each in value.keywords.items()}
            return functools.partial(self.copy_of(value.func), *map(self.copy_of, value.args), **keywords)
        if kind is weakref.ref and value() is not None:
            return weakref.ref(self.copy_of(value()))
        if kind.__module__.partition(".")[0] in STATEFUL:
            with contextlib.suppress(TypeError):
                return copy.deepcopy(value)
        return self._object(value, kind)

    def _container(self, value: Any) -> Any:
        made = copy.copy(value)
        made.clear()
        return self._later(value, made, self._fill_container)

    def _fill_container(self, value: Any, made: Any) -> None:
        if isinstance(value, dict):
            for key, each in value.items():
                made[self.copy_of(key)] = self.copy_of(each)
        else:
            add = made.add if isinstance(value, set) else made.append
            for each in value:
                add(self.copy_of(each))
        if hasattr(value, "__dict__"):
            vars(made).update({name: self.copy_of(each) for name, each in vars(value).items()})

    def _fill_module(self, module: nn.Module, made: nn.Module) -> None:
        state = vars(made)
        for name, value in vars(module).items():
            if "_hooks" in name and not name.startswith("_forward"):
                state[name] = OrderedDict()  # no gradient flows and nothing is saved: they have nothing to do
            elif name == "_compiled_call_impl":
                state[name] = None
            else:
                state[name] = self.copy_of(value)

    def _object(self, value: Any, kind: type) -> Any:
        """Copy an instance of an ordinary class; share what knows better how it is copied, or is none of ours."""
        ordinary = all(getattr(kind, name) is getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))
        if not ordinary or kind.__getstate__ is not object.__getstate__ or _library(kind.__module__):
            return value
        try:
            made = object.__new__(kind)
        except TypeError:  # written in C
            return value
        return self._later(value, made, self._fill_object)

    def _fill_object(self, value: Any, made: Any) -> None:
        slots = [name for kind in type(value).__mro__ for name in _names(vars(kind).get("__slots__", ()))]
        for name in slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                object.__setattr__(made, name, self.copy_of(getattr(value, name)))
        if hasattr(value, "__dict__"):
            vars(made).update({name: self.copy_of(each) for name, each in vars(value).items()})

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        """The same code; what it reaches by closure, defaults and globals are the copies."""
        own = not _library(function.__module__)
        if not own and not function.__closure__:
            return function
        cells = tuple(map(self.copy_of, function.__closure__ or ()))
        outside = self._globals_of(function) if own else function.__globals__
        made = types.FunctionType(function.__code__, outside, function.__name__, None, cells)
        return self._later(function, made, self._fill_function)

    def _fill_function(self, function: types.FunctionType, made: types.FunctionType) -> None:
        original = function.__globals__
        if made.__globals__ is not original:
            names = _global_names(function.__code__)
            names = {name for name in names if not isinstance(original.get(name), (types.ModuleType, type))}
            self._shared[id(original)] |= names
            made.__globals__.update({name: self.copy_of(original[name]) for name in names & original.keys()})
        made.__defaults__ = self.copy_of(function.__defaults__)
        made.__kwdefaults__ = self.copy_of(function.__kwdefaults__)
        made.__dict__.update({name: self.copy_of(value) for name, value in vars(function).items()})

    def _fill_cell(self, cell: types.CellType, made: types.CellType) -> None:
        try:
            made.cell_contents = self.copy_of(cell.cell_contents)
        except ValueError:  # nothing was assigned to it yet
            return

    def _globals_of(self, function: types.FunctionType) -> dict[str, Any]:
        """A copy of the names of the function's file, which all copied functions of that file share."""
        original = function.__globals__
        if id(original) not in self._copies:
            self._copies[id(original)] = dict(original)
            self._originals.append(original)
            self._shared[id(original)] = set()
        return self._copies[id(original)]

    def _rebind_methods(self) -> None:
        """Let methods of the network's classes see the same copies as the functions that were copied.

        This matters where a hook writes into a global, or into a variable that encloses the class, and the method
        reads it there.
        """
        for module in list(self.network.modules()) if self._shared else ():
            for kind in type(module).__mro__:
                for name, method in {} if _library(kind.__module__) else vars(kind).items():
                    if type(method) is types.FunctionType and name not in vars(module) and self._is_shared(method):
                        vars(module)[name] = types.MethodType(self.copy_of(method), module)
        self._fill()

    def _is_shared(self, method: types.FunctionType) -> bool:
        """Whether a method reads a variable that a copied function reads or writes."""
        if method.__name__.startswith("__"):
            return False
        if any(id(cell) in self._copies for cell in method.__closure__ or ()):
            return True
        return not _global_names(method.__code__).isdisjoint(self._shared.get(id(method.__globals__), ()))


def _check_not_quantised(model: nn.Module) -> None:
    for name, module in model.named_modules():
        kind = type(module)
        if kind.__module__.startswith(QUANTISED) and "FloatFunctional" not in kind.__name__:
            raise ValueError(
                f"layer {name!r} is quantised ({kind.__name__}) and does not run without its values: give the "
                "floating-point network that it was made from"
            )


def _weightless(value: Tensor) -> Tensor:
    try:
        empty = torch.empty_like(value, device=META, requires_grad=False)
    except (RuntimeError, NotImplementedError, TypeError):  # a kind of tensor that meta does not know
        return value
    return nn.Parameter(empty, requires_grad=False) if isinstance(value, nn.Parameter) else empty


def _library(name: str | None) -> bool:
    return (name or "").partition(".")[0] in LIBRARIES


def _names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


def _global_names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _global_names(constant)
    return names


class Tracer(TorchDispatchMode):
    """See every operation of a skeleton's forward pass, and which module does it.

    A subclass says in ``operation`` what becomes of each. Tensors that the skeleton does not hold, such as those in
    global variables, join it without their values.

    Attributes:
        stack: Names of the modules that are running, the innermost last.
        origin: The module in which an exception was raised.
        failed: The hook, as (module, number), in which an exception was raised.

    Args:
        skeleton: What will run.
        left_out: Hooks that are not called.
    """

    def __init__(self, skeleton: Skeleton, left_out: Iterable[tuple[str, int]] = ()) -> None:
        super().__init__()
        self.network = skeleton.network
        self.stack = [""]
        self.origin: dict[BaseException, str] = {}
        self.failed: dict[BaseException, tuple[str, int]] = {}
        self._strays: dict[int, tuple[Tensor, Tensor]] = {}
        for name, module in self.network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
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
        if _takes_device(func):
            args = tuple(META if isinstance(value, torch.device) else value for value in args)
            if kwargs.get("device") is not None or not tensors:
                kwargs = {**kwargs, "device": META}
                kwargs.pop("pin_memory", None)
        if kwargs.get("generator") is not None:
            kwargs = {**kwargs, "generator": None}
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
        """What stands for a tensor that the skeleton does not hold."""
        return empty

    def _running(self, function: Callable, name: str, hook: int | None = None) -> Callable:
        """The same function, with the module's name on top of the stack while it runs."""

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


@functools.cache
def _takes_device(func: torch._ops.OpOverload) -> bool:
    return any(argument.name == "device" for argument in func._schema.arguments)
