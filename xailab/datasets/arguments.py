"""Checks of arguments that the rendered data sets share."""

from collections.abc import Sequence


def check_choice(name: str, value: str, valid: Sequence[str]) -> None:
    """Raise ValueError if an argument is none of the valid words."""
    if value not in valid:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, valid))}")


def check_numbers(smallest: int, **numbers: int) -> None:
    """Raise ValueError if ``size`` is less than the smallest size in pixels, or another number negative."""
    for name, value in numbers.items():
        least = smallest if name == "size" else 0
        if value < least:
            raise ValueError(f"{name}={value}: expected an integer from {least}")
