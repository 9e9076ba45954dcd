"""Align tables of text."""

from collections.abc import Container, Sequence


def padded(rows: Sequence[Sequence[object]], left: Container[int] = (0,), *, rule: bool = False) -> list[list[str]]:
    """Pad the cells of a table to the width of their columns.

    >>> padded([["network", "MACs"], ["VGG", 15]])
    [['network', 'MACs'], ['VGG    ', '  15']]

    Args:
        rows: Cells of each row, the header first.
        left: Numbers of the columns that are flush left; the others are flush right.
        rule: Whether to put dashes below the header.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if rule:
        cells.insert(1, ["-" * width for width in widths])
    columns = list(enumerate(widths))
    return [
        [cell.ljust(width) if i in left else cell.rjust(width) for cell, (i, width) in zip(row, columns, strict=True)]
        for row in cells
    ]


def lines(rows: Sequence[Sequence[object]], left: Container[int] = (0,), *, rule: bool = False) -> list[str]:
    """Return the lines of a table, two spaces between its columns, with the arguments of ``padded``.

    >>> lines([["network", "MACs"], ["VGG", 15]])
    ['network  MACs', 'VGG        15']
    """
    return ["  ".join(row).rstrip() for row in padded(rows, left, rule=rule)]
