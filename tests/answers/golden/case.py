"""A question, its answer, and the statement by which anybody can see in PostgreSQL that the answer is right."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf import text_format

from querybroker.v1 import query_pb2 as q

JOINED = """
WITH joined AS (
  SELECT f.*, make_date(f.year, f.month, f.day) AS date, f.dep_time IS NULL AS cancelled, p.manufacturer, p.seats,
    p.year AS plane_year, a.name AS dest_name, a.tzone AS dest_zone, a.lat AS dest_lat, l.name AS airline,
    w.visib, w.wind_dir, w.temp, w.precip > 0 AS raining
  FROM flights f LEFT JOIN planes p ON p.tailnum = f.tailnum LEFT JOIN airports a ON a.faa = f.dest
    LEFT JOIN airlines l ON l.carrier = f.carrier
    LEFT JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
)
"""


@dataclass(frozen=True)
class Case:
    """``query`` is protobuf text without the dataset; ``sql`` selects from ``joined``; both give ``rows``, in order."""

    name: str
    query: str
    sql: str
    rows: tuple[tuple[object, ...], ...]

    @property
    def message(self) -> q.Query:
        """The question."""
        return text_format.Parse(self.query, q.Query(dataset="flights"))

    @property
    def statement(self) -> str:
        """The statement for PostgreSQL."""
        return JOINED + self.sql


def case(name: str, query: str, sql: str, *rows: tuple[object, ...]) -> Case:
    """A case with rows as they are read."""
    return Case(name, query, sql, rows)


def at(text: str) -> datetime:
    """An instant in UTC, such as ``2013-03-10 05:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
