"""Packages that the library needs only now and then: they come with an extra of the installation."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needed_for(purpose: str, extra: str) -> Iterator[None]:
    """Import optional packages; if one is missing, say which extra to install.

    >>> with needed_for("my_function", extra="course"):
    ...     import no_such_package
    Traceback (most recent call last):
    ModuleNotFoundError: my_function needs no_such_package: pip install "xailab[course]", or ".[course]" in a clone

    Args:
        purpose: The subject of the message.
        extra: An extra of ``pyproject.toml``.

    Raises:
        ModuleNotFoundError: if a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        how = f'pip install "xailab[{extra}]", or ".[{extra}]" in a clone'
        raise ModuleNotFoundError(f"{purpose} needs {package}: {how}", name=error.name) from None
