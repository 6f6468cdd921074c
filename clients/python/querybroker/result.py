"""Answers as Python values, Arrow tables, and data frames.

pyarrow, polars and pandas are imported when one of their tables is asked for, and only then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from querybroker.errors import QueryBrokerError
from querybroker.v1 import answer_pb2, query_service_pb2

if TYPE_CHECKING:
    import polars as pl

Schema = Sequence[answer_pb2.ColumnSchema]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)


class Batch:
    """Some rows. ``first_row`` is their position in the whole answer."""

    def __init__(
        self,
        schema: Schema,
        row_count: int,
        columns: answer_pb2.ColumnBatch | None,
        arrow_ipc: bytes,
        first_row: int = 0,
    ) -> None:
        self.schema = tuple(schema)
        self.first_row = first_row
        self._row_count = row_count
        self._columns = columns
        self._arrow_ipc = arrow_ipc

    def __len__(self) -> int:
        return self._row_count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dicts())

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} rows: {_names(self.schema)}>"

    def column(self, name: str) -> list[Any]:
        """The values of a column; None is null.

        Raises:
            KeyError: No such column.
            OverflowError: A date or an instant that Python cannot hold, before the year 1 or after 9999.
        """
        for position, column in enumerate(self.schema):
            if column.name == name:
                return self._values(position)
        raise KeyError(f"no column {name!r}; the columns are {_names(self.schema)}")

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples, in the order of the schema."""
        columns = self._all()
        return list(zip(*columns, strict=True)) if columns else [()] * self._row_count

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column name."""
        names = [column.name for column in self.schema]
        return [dict(zip(names, row, strict=True)) for row in self.rows()]

    def to_arrow(self) -> Any:
        """The rows as a ``pyarrow.Table``."""
        import pyarrow as pa

        if self._columns is None:
            with pa.ipc.open_stream(pa.py_buffer(self._arrow_ipc)) as reader:
                return reader.read_all()
        fields = [pa.field(column.name, _arrow_type(column)) for column in self.schema]
        arrays = [pa.array(self._values(i), field.type) for i, field in enumerate(fields)]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def _all(self) -> list[list[Any]]:
        table = self.to_arrow() if self._columns is None else None
        return [self._values(position, table) for position in range(len(self.schema))]

    def _values(self, position: int, table: Any = None) -> list[Any]:
        column = self.schema[position]
        try:
            if self._columns is None:
                read = self.to_arrow() if table is None else table
                values: list[Any] = read.column(position).to_pylist()
                return values
            return decode_column(self._columns.columns[position], self._row_count, column.zone)
        except (OverflowError, ValueError) as error:
            if column.type not in (answer_pb2.DATA_TYPE_DATE, answer_pb2.DATA_TYPE_TIMESTAMP):
                raise
            text = (
                f"{column.name!r} has values outside the years 1 to 9999, which Python cannot hold; ask with "
                "format='arrow' and read them with to_arrow(), or leave them out with a filter"
            )
            raise OverflowError(text) from error


class Result:
    """An answer: its columns, its rows and its status, which says where they come from and how old they are."""

    def __init__(self, schema: Schema, batches: Sequence[Batch], status: answer_pb2.AnswerStatus) -> None:
        self.schema = tuple(schema)
        self.batches = tuple(batches)
        self.status = status

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.schema]

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches:
            yield from batch.to_dicts()

    def __repr__(self) -> str:
        kind = answer_pb2.AnswerKind.Name(self.status.kind).removeprefix("ANSWER_KIND_")
        return f"<Result of {len(self)} rows: {_names(self.schema)}; {kind}>"

    def column(self, name: str) -> list[Any]:
        """The values of a column; None is null."""
        return [value for batch in self.batches for value in batch.column(name)]

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples."""
        return [row for batch in self.batches for row in batch.rows()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column name."""
        return list(self)

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table``."""
        import pyarrow as pa

        tables = [batch.to_arrow() for batch in self.batches]
        if not tables:
            return pa.schema([(c.name, _arrow_type(c)) for c in self.schema]).empty_table()
        return pa.concat_tables(tables, promote_options="permissive")

    def to_polars(self) -> pl.DataFrame:
        """A ``polars.DataFrame``."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``."""
        return self.to_arrow().to_pandas()


class Dashboard(Mapping[str, Result]):
    """The panels of a dashboard by id. Asking for a panel that failed raises its error."""

    def __init__(self, response: query_service_pb2.DashboardResponse) -> None:
        self.request_id = response.request_id
        self.snapshot_time: datetime | None = None
        if response.HasField("snapshot_time"):
            self.snapshot_time = response.snapshot_time.ToDatetime(UTC)
        self._panels = {panel.panel_id: panel_result(panel) for panel in response.panels}

    @property
    def errors(self) -> dict[str, QueryBrokerError]:
        """The panels that failed."""
        return {name: panel for name, panel in self._panels.items() if isinstance(panel, QueryBrokerError)}

    def __getitem__(self, panel_id: str) -> Result:
        panel = self._panels[panel_id]
        if isinstance(panel, QueryBrokerError):
            raise panel
        return panel

    def __iter__(self) -> Iterator[str]:
        return iter(self._panels)

    def __len__(self) -> int:
        return len(self._panels)

    def __repr__(self) -> str:
        failed = f"; failed: {', '.join(self.errors)}" if self.errors else ""
        return f"<Dashboard of {len(self)} panels: {', '.join(self)}{failed}>"


def panel_result(panel: query_service_pb2.PanelAnswer) -> Result | QueryBrokerError:
    """What came of a panel."""
    if panel.HasField("error"):
        return QueryBrokerError.from_status(panel.error)
    table = panel.table
    columns = table.columns if table.WhichOneof("data") != "arrow_ipc" else None
    return Result(
        table.schema, [Batch(table.schema, table.row_count, columns, table.arrow_ipc)], panel.status
    )


def row_batch(schema: Schema, batch: query_service_pb2.RowBatch) -> Batch:
    """A batch of a stream."""
    columns = batch.columns if batch.WhichOneof("data") != "arrow_ipc" else None
    return Batch(schema, batch.row_count, columns, batch.arrow_ipc, batch.first_row)


def decode_column(column: answer_pb2.Column, row_count: int, zone: str = "") -> list[Any]:
    """The values of a typed column; None where the validity bit is 0. Instants are shown in the zone, or in UTC."""
    match column.WhichOneof("values"):
        case "string_values":
            words = column.string_values.dictionary
            values: list[Any] = [words[i] if words else None for i in column.string_values.indices]
        case "decimal_values":
            values = [Decimal(text) if text else None for text in column.decimal_values.values]
        case "timestamp_values":
            tz = _zone(zone)
            micros = column.timestamp_values.unix_micros
            values = [(_EPOCH + timedelta(microseconds=each)).astimezone(tz) for each in micros]
        case "date_values":
            values = [_EPOCH_DAY + timedelta(days=each) for each in column.date_values.unix_days]
        case None:
            values = [None] * row_count
        case kind:
            values = list(getattr(column, kind).values)
    if not column.validity:
        return values
    bits = column.validity
    return [value if bits[i >> 3] >> (i & 7) & 1 else None for i, value in enumerate(values)]


def _names(schema: Schema) -> str:
    return ", ".join(column.name for column in schema)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except ZoneInfoNotFoundError:  # a system without a zone database; the instant is the same
        return UTC


def _arrow_type(column: answer_pb2.ColumnSchema) -> Any:
    import pyarrow as pa

    match column.type:
        case answer_pb2.DATA_TYPE_INT64:
            return pa.int64()
        case answer_pb2.DATA_TYPE_DOUBLE:
            return pa.float64()
        case answer_pb2.DATA_TYPE_DECIMAL:
            return pa.decimal128(38, column.scale)
        case answer_pb2.DATA_TYPE_BOOL:
            return pa.bool_()
        case answer_pb2.DATA_TYPE_TIMESTAMP:
            return pa.timestamp("us", tz=column.zone or "UTC")
        case answer_pb2.DATA_TYPE_DATE:
            return pa.date32()
        case _:
            return pa.string()
