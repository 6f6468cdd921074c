"""Where the rows of an answer go: a table for people, or CSV, JSON lines or Arrow for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from querybroker.v1.answer_pb2 import ColumnSchema

if TYPE_CHECKING:
    from rich.console import Console

    from querybroker.result import Batch

_INSTANT = "%Y-%m-%dT%H:%M:%S%.f%:z"


class Writer(Protocol):
    """Takes an answer batch by batch."""

    def begin(self, schema: Sequence[ColumnSchema]) -> None:
        """The columns are known."""
        ...

    def write(self, batch: Batch) -> None:
        """Some rows have arrived."""
        ...

    def end(self) -> None:
        """All rows have arrived."""
        ...


def wire_format(format: str) -> Literal["columns", "arrow"]:
    """The format to ask of the broker: Arrow for bulk, typed columns for what is read by people."""
    return "arrow" if format in ("csv", "arrow") else "columns"


class TableWriter:
    """Prints the first rows as a table and counts the others."""

    def __init__(self, console: Console, most_rows: int, title: str = "") -> None:
        self._console = console
        self._most_rows = most_rows
        self._title = title
        self._schema: Sequence[ColumnSchema] = ()
        self._rows: list[tuple[Any, ...]] = []
        self._count = 0

    def begin(self, schema: Sequence[ColumnSchema]) -> None:
        """Remembers the columns."""
        self._schema = schema

    def write(self, batch: Batch) -> None:
        """Keeps rows as long as there is room."""
        self._count += len(batch)
        if len(self._rows) < self._most_rows:
            self._rows += batch.rows()[: self._most_rows - len(self._rows)]

    def end(self) -> None:
        """Prints the table."""
        from broker.cli.render.tables import answer_table

        table = answer_table(self._schema, self._rows, title=self._title)
        if self._console.measure(table).maximum > self._console.width:
            table = answer_table(self._schema, self._rows, title=self._title, narrow=True)
        self._console.print(table)
        if self._count > len(self._rows):
            self._console.print(
                f"… and {self._count - len(self._rows):,} more rows; --rows shows more, --format with -o keeps all.\n"
            )


class JsonWriter:
    """One JSON object per row and line. Instants are RFC 3339 in UTC, decimals are texts, null is null."""

    def __init__(self, output: IO[bytes], panel: str | None = None) -> None:
        self._output = output
        self._panel: dict[str, object] = {} if panel is None else {"panel": panel}

    def begin(self, schema: Sequence[ColumnSchema]) -> None:
        """Nothing: every row names its columns."""

    def write(self, batch: Batch) -> None:
        """Writes the rows."""
        for row in batch.to_dicts():
            line = json.dumps(self._panel | row, default=_json, ensure_ascii=False)
            self._output.write(line.encode() + b"\n")

    def end(self) -> None:
        """Nothing is left to write."""


class CsvWriter:
    """CSV after RFC 4180 with a header: null is nothing at all, an empty text is ``""``, instants have an offset."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def begin(self, schema: Sequence[ColumnSchema]) -> None:
        """Writes the header."""
        header = io.StringIO()
        csv.writer(header, lineterminator="\r\n").writerow([column.name for column in schema])
        self._output.write(header.getvalue().encode())

    def write(self, batch: Batch) -> None:
        """Writes the rows."""
        import polars as pl

        table = batch.to_arrow()
        # By position: names of SQL columns may repeat, which frames cannot have.
        frame = pl.from_arrow(table.rename_columns([f"c{i}" for i in range(table.num_columns)]))
        assert isinstance(frame, pl.DataFrame)
        buffer = io.BytesIO()
        frame.write_csv(buffer, include_header=False, line_terminator="\r\n", datetime_format=_INSTANT)
        self._output.write(buffer.getbuffer())

    def end(self) -> None:
        """Nothing is left to write."""


class ArrowWriter:
    """Arrow IPC: a file where the output can be mapped later, a stream on standard output."""

    def __init__(self, output: IO[bytes], *, file: bool) -> None:
        self._output = output
        self._file = file
        self._writer: Any = None
        self._schema: Sequence[ColumnSchema] = ()

    def begin(self, schema: Sequence[ColumnSchema]) -> None:
        """Waits for the first batch, which knows the types of Arrow."""
        self._schema = schema

    def write(self, batch: Batch) -> None:
        """Writes the rows."""
        table = batch.to_arrow()
        self._opened(table.schema).write_table(table)

    def end(self) -> None:
        """Writes the end; an answer without rows has its columns all the same."""
        if self._writer is None:
            from querybroker.result import Result
            from querybroker.v1.answer_pb2 import AnswerStatus

            self._opened(Result(self._schema, (), AnswerStatus()).to_arrow().schema)
        self._writer.close()

    def _opened(self, schema: Any) -> Any:
        if self._writer is None:
            import pyarrow as pa

            self._writer = (pa.ipc.new_file if self._file else pa.ipc.new_stream)(self._output, schema)
        return self._writer


def _json(value: object) -> str:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case _:
            raise TypeError(f"{type(value).__name__} is no value of an answer")
