"""Copy a network without its values."""

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

from xailab.hooks import QUANTISED, unwrapped
from xailab.tracing.operations import META

ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type, range, slice, torch.Size, torch.dtype, torch.device}
)
LIBRARIES = frozenset({"torch", "torchvision", "functools", "contextlib"})
STATEFUL = frozenset({"numpy", "random"})  # a forward pass may change arrays and draw from generators


class Skeleton:
    """Copy a network in eval mode, with every tensor on the meta device.

    ``copy.deepcopy`` would share functions, and with them all that they write into. Here modules, tensors, containers,
    plain objects, functions and the network's own hooks are copied together: where a hook writes into a dict that the
    network reads, the copied hook writes into the copied dict. The copies of functions refer to copies by their
    closures, defaults, bound objects and globals. Objects that cannot be copied and hold no tensors are shared, such as
    a generator, a lock or a file.

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
        """Return the copy of an object of the original network; the same object has one copy."""
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
        """Return an empty copy at once and fill it later, so that objects may refer to each other."""
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
        """Copy an instance of an ordinary class; share one that has its own way to be copied, or is a library's."""
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
        """Make a function of the same code whose closure, defaults and globals hold the copies."""
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
        """Copy the global names of the function's file, once for all copied functions of that file."""
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
        """Tell whether a method reads a variable that a copied function reads or writes."""
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
