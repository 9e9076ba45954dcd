"""The checks of the exercises: ``check("02.1", my_function)`` prints whether it passes, or a hint.

Each lesson has a folder here, named after its module: `drawings.py`, `explorer.py`, and `exercises.py` with the checks:

    @exercise("02.1")
    def _(attempt):
        if attempt(2) != 4:
            raise Wrong("for 2 the answer is 4: ...")
        return "and that is all a square is."
"""

import copy
import functools
import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from xailab.lessons.traces import left_behind

LESSONS = {
    "00": "welcome",
    "01": "flops",
    "02": "cam",
    "03": "grad_cam",
    "04": "guided_backprop",
    "05": "saliency",
    "06": "feature_maps",
    "07": "protopnet",
    "08": "padim",
    "09": "patch_svdd",
}
_checks: dict[str, Callable[[Any], str]] = {}


class Wrong(Exception):
    """The answer is wrong; the message tells the reader where to look."""


class _NotWritten(Exception):
    """The answer is the unchanged skeleton."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check; the message is one line for the reader."""

    passed: bool
    message: str


def exercise(number: str) -> Callable[[Callable[[Any], str]], Callable[[Any], str]]:
    """Register the check of an exercise: it raises `Wrong`, or returns one line of praise."""

    def register(function: Callable[[Any], str]) -> Callable[[Any], str]:
        if number in _checks:
            raise ValueError(f"exercise {number} already has a check, in {_checks[number].__module__}")
        _checks[number] = function
        return function

    return register


def verdict(number: str, answer: Any) -> Verdict:
    """Judge a reader's answer, which is a function, or a value where the exercise asks for one.

    Raises:
        ValueError: if there is no exercise of this number.
    """
    lesson = str(number).partition(".")[0]
    if lesson in LESSONS:
        importlib.import_module(f"{__name__}.{LESSONS[lesson]}")
    if number not in _checks:
        near = [n for n in _checks if n.partition(".")[0] == lesson] or sorted(LESSONS)
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(near)}")
    changes: list[str] = []
    try:
        with torch.inference_mode(False), torch.enable_grad():  # whatever an earlier cell has switched off
            praise = _checks[number](_guarded(answer, changes))
        if changes:
            raise Wrong(f"what comes back is right, but {changes[0]}")
        return Verdict(True, praise)
    except _NotWritten:
        return Verdict(False, "not written yet: replace the dots by your own lines and run the cell again.")
    except Wrong as wrong:
        return Verdict(False, str(wrong))
    except Exception as error:
        return Verdict(False, _explain(error, answer))


def check(number: str, answer: Any) -> None:
    """Print the verdict on an answer, as in ``check("02.1", my_function)``."""
    result = verdict(number, answer)
    print("✓" if result.passed else "✗", number, f"{'passed' if result.passed else 'open'}: {result.message}")


def _guarded(answer: Any, changes: list[str]) -> Any:
    """Wrap an answer: None or dots, or a function that returns them, is not written yet.

    A function gets copies of its arguments, so that the check's own stay unchanged; its changes of the copies are
    described in ``changes``.
    """
    if not callable(answer):
        return _written(answer)

    @functools.wraps(answer)
    def call(*args, **kwargs):
        given = copy.deepcopy((args, kwargs))
        try:
            value = _written(answer(*given[0], **given[1]))
        except NotImplementedError as error:
            raise _NotWritten from error
        if said := left_behind(answer, (args, kwargs), given):
            changes.append(said)
        return value

    return call


def _written(value: Any) -> Any:
    if value is None or value is ...:
        raise _NotWritten
    return value


def _explain(error: Exception, answer: Any) -> str:
    """Describe an exception in one line: its place in the reader's function, or that the result has another form."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = [(frame.filename, frame.name, frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    calls = [i for i, frame in enumerate(frames) if frame[:2] == (__file__, "call")]
    if calls:
        file = answer.__code__.co_filename if hasattr(answer, "__code__") else None
        lines = [line for name, _, line in frames[calls[0] :] if name == file]
        return f"your function stopped{f' at `{lines[-1]}`' if lines else ''} with {said}"
    return f"the check could not use what came back; has it the form that the exercise asks for? ({said})"
