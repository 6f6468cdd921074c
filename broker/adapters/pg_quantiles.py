"""Values that part the rows of a table about equally, by the planner's statistics: nothing is scanned."""

from __future__ import annotations

import re

from broker.domain.model import Dataset, Dimension
from broker.domain.values import DataType

# Of columns with few values there is no histogram; those values themselves are then the list.
_VALUES = """
WITH known AS (
  SELECT coalesce(s.histogram_bounds, s.most_common_vals)::text::text[] AS found
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = c.relname
   WHERE c.oid = to_regclass($1) AND s.attname = $2 ORDER BY s.inherited DESC LIMIT 1
)
SELECT {value} AS value FROM known, unnest(known.found) AS v ORDER BY 1
"""
_WIRE = {
    DataType.INT64: "v::numeric::bigint",
    DataType.DATE: "v::date - date '1970-01-01'",
    DataType.TIMESTAMP: "(extract(epoch FROM v::timestamptz) * 1000000)::bigint",
}
_LOCAL = "(extract(epoch FROM v::timestamp AT TIME ZONE $3) * 1000000)::bigint"
_COLUMN = re.compile(r'(?:(\w+|"[^"]+")\.)?([A-Za-z_]\w*|"[^"]+")')


def quantile_statement(dataset: Dataset, dimension: Dimension) -> tuple[str, tuple[str, ...]] | None:
    """The statement and its values; None for what is no plain column of the dataset's own table."""
    match = _COLUMN.fullmatch(dimension.sql.strip())
    if match is None or dimension.type not in _WIRE:
        return None
    alias, column = match.groups()
    if alias is not None and _folded(alias) != dataset.name:
        return None
    values = (dataset.table, _folded(column))
    if dimension.type is DataType.TIMESTAMP and dimension.stored_zone:
        return _VALUES.format(value=_LOCAL), (*values, dimension.stored_zone)
    return _VALUES.format(value=_WIRE[dimension.type]), values


def _folded(name: str) -> str:
    """A name as the catalog has it."""
    return name[1:-1] if name.startswith('"') else name.lower()
