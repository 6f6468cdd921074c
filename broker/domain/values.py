"""Typed values and column schemas: what flows between the contract, the database and the kernels."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

Scalar = str | int | float | bool | Decimal | datetime | date
"""A non-null value. Instants are aware datetimes in UTC."""


class DataType(StrEnum):
    """Type of a column; the same list as the proto enum ``DataType``."""

    INT64 = "int64"
    DOUBLE = "double"
    DECIMAL = "decimal"
    BOOL = "bool"
    STRING = "string"
    TIMESTAMP = "timestamp"
    DATE = "date"

    @property
    def numeric(self) -> bool:
        """Whether sums make sense."""
        return self in (DataType.INT64, DataType.DOUBLE, DataType.DECIMAL)


class ColumnRole(StrEnum):
    """Where a column of an answer comes from."""

    TIME_BUCKET = "time_bucket"
    DIMENSION = "dimension"
    MEASURE = "measure"
    CALCULATION = "calculation"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result: ``scale`` counts decimal digits, ``zone`` names the zone of a time bucket."""

    name: str
    type: DataType
    role: ColumnRole = ColumnRole.SQL
    scale: int = 0
    zone: str = ""
    unit: str = ""

    def __hash__(self) -> int:
        return hash(self.name)  # looked up with every answer, and columns of one name are few


class ResultFormat(StrEnum):
    """Encoding of a table."""

    COLUMNS = "columns"
    ARROW = "arrow"
