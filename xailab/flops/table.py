"""The results of a count: rows, sums, and tables for the terminal and for notebooks."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from xailab import tables
from xailab.flops.formulas import Cost

Factor = tuple[tuple[str, ...], int]  # the parameters that a weight is computed from, and its elements


@dataclass(frozen=True)
class Row:
    """One counted operation.

    Attributes:
        module: Dotted name of the module that called it ("" for the network itself).
        kind: convolution, depthwise, pointwise, transposed, linear, matmul, attention, or that of a rule of yours.
        input_shape: Shape of the input, with the batch.
        weight_shape: Shape of the weight; of a product, that of its second factor.
        output_shape: Shape of the output, with the batch.
        groups: Number of groups of a convolution, else 1.
        macs: Multiply-accumulates.
        weights: Elements of the factor that is a parameter, or is computed from parameters alone (0 where none is):
            the papers' "parameters".
        params: Elements of all parameters that it reads: of weights and biases.
        bytes: The least traffic with memory: every operand is read once, the output is written once.
        parameters: Names of these parameters, those of the factor first.
        factors: What makes up ``weights``, so that a factor that is used again is not counted again.
    """

    module: str
    kind: str
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    groups: int
    macs: int
    weights: int
    params: int
    bytes: int
    parameters: tuple[str, ...] = field(default=(), repr=False)
    factors: tuple[Factor, ...] = field(default=(), repr=False)

    @property
    def flops(self) -> int:
        """Floating-point operations: 2 x MACs."""
        return 2 * self.macs

    @property
    def output_elements(self) -> int:
        """Number of values in the output, over the whole batch."""
        return math.prod(self.output_shape)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, in FLOP per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True, repr=False)
class Table:
    """A table that prints aligned and that a notebook shows as HTML.

    Attributes:
        header: Names of the columns.
        rows: The cells of each line.
        total: The cells of the last line, or nothing.
        notes: Lines of text below the table.
        text_columns: How many of the first columns are words, aligned to the left.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    total: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: int = 1

    def without(self, *columns: str) -> "Table":
        """Make a table without some columns, for a narrow page.

        Raises:
            ValueError: if there is no such column.
        """
        if unknown := set(columns) - set(self.header):
            raise ValueError(f"no column {', '.join(sorted(unknown))}: there are {', '.join(self.header)}")
        kept = [i for i, name in enumerate(self.header) if name not in columns]

        def pick(cells: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(cells[i] for i in kept) if cells else ()

        words = sum(i < self.text_columns for i in kept)
        return Table(pick(self.header), tuple(map(pick, self.rows)), pick(self.total), self.notes, words)

    def __str__(self) -> str:
        rows = [self.header, *self.rows, *([self.total] if self.total else [])]
        text = tables.lines(rows, range(self.text_columns))
        rule = "-" * max(map(len, text))
        text.insert(1, rule)
        if self.total:
            text.insert(-1, rule)
        return "\n".join([*text, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells, tag):
            inner = (
                f'<{tag} style="text-align:{"left" if i < self.text_columns else "right"}">{html.escape(cell)}</{tag}>'
                for i, cell in enumerate(cells)
            )
            return f"<tr>{''.join(inner)}</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        foot = f"<tfoot>{line(self.total, 'th')}</tfoot>" if self.total else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><thead>{line(self.header, 'th')}</thead><tbody>{body}</tbody>{foot}</table>{notes}"


@dataclass(frozen=True, repr=False)
class CostTable:
    """All counted operations of one forward pass.

    Attributes:
        rows: One for each operation, in the order of the forward pass.
        params: Elements of all parameters of the network, of normalisation and biases too, each counted once.
        unknown: Operations of unknown cost, with the modules that called them.
        sizes: Elements of each parameter.
    """

    rows: tuple[Row, ...]
    params: int
    unknown: dict[str, tuple[str, ...]]
    sizes: dict[str, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations: 2 x MACs."""
        return 2 * self.macs

    @property
    def weights(self) -> int:
        """Elements of all factors that are parameters, without biases and normalisation, as papers print them."""
        elements: dict[tuple[str, ...], int] = {}
        for names, size in (factor for row in self.rows for factor in row.factors):
            elements[names] = max(size, elements.get(names, 0))
        return sum(elements.values())

    @property
    def bytes(self) -> int:
        """The least traffic with memory of the counted operations, in bytes."""
        return sum(row.bytes for row in self.rows)

    @property
    def intensity(self) -> float:
        """Arithmetic intensity of the counted operations, in FLOP per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def by_kind(self) -> dict[str, Cost]:
        """Sum the MACs and the weights of each kind of operation."""
        costs: dict[str, Cost] = {}
        for row in self.rows:
            costs[row.kind] = costs.get(row.kind, Cost()) + Cost(row.macs, row.weights)
        return costs

    def at(self, depth: int) -> dict[str, tuple[Row, ...]]:
        """Group the rows by module, with names cut after ``depth`` parts; depth 0 is the whole network.

        Raises:
            ValueError: if the depth is negative.
        """
        if depth < 0:
            raise ValueError(f"depth must be 0 or more, got {depth}")
        groups: dict[str, tuple[Row, ...]] = {}
        for row in self.rows:
            name = ".".join(row.module.split(".")[:depth])
            groups[name] = (*groups.get(name, ()), row)
        return groups

    def table(self, depth: int | None = None) -> Table:
        """Make a table with one line for each operation, or for each module down to ``depth``."""
        header: tuple[str, ...]
        lines: list[tuple[str, ...]]
        if depth is None:
            header = ("module", "kind", "input", "weight", "output", "groups")
            lines = [
                (row.module or "(network)", row.kind, _shape(row.input_shape), _shape(row.weight_shape),
                 _shape(row.output_shape), str(row.groups), *self._numbers([row]))
                for row in self.rows
            ]  # fmt: skip
        else:
            header = ("module", "operations")
            lines = [
                (name or "(network)", str(len(rows)), *self._numbers(rows)) for name, rows in self.at(depth).items()
            ]
        blank = ("",) * (len(header) - 1)
        rest = self.params - self._params(self.rows)
        if rest:
            lines.append(("(not counted)", *blank, "", "", f"{rest:,}", "", "", ""))
        macs, flops, _, *traffic = self._numbers(self.rows)
        notes = tuple(
            f"not counted, cost unknown: {name} in {', '.join(dict.fromkeys(m or '(network)' for m in modules))}"
            for name, modules in self.unknown.items()
        )
        return Table(
            header=(*header, "MACs", "FLOPs", "params", "outputs", "bytes", "FLOP/byte"),
            rows=tuple(lines),
            total=("total", *blank, macs, flops, f"{self.params:,}", *traffic),
            notes=notes,
            text_columns=5 if depth is None else 1,
        )

    def _params(self, rows: Sequence[Row]) -> int:
        return sum(self.sizes[name] for name in {name for row in rows for name in row.parameters})

    def _numbers(self, rows: Sequence[Row]) -> tuple[str, ...]:
        macs, moved = sum(row.macs for row in rows), sum(row.bytes for row in rows)
        counts = (macs, 2 * macs, self._params(rows), sum(row.output_elements for row in rows), moved)
        return (*(f"{n:,}" for n in counts), f"{2 * macs / moved:.2f}" if moved else "")

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
