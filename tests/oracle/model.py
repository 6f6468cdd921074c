"""A dataset as the oracle sees it: one wide frame with a column for every dimension and every measure's input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

POLARS_TYPES: Mapping[str, pl.DataType] = {
    "INT64": pl.Int64(),
    "DOUBLE": pl.Float64(),
    "BOOL": pl.Boolean(),
    "STRING": pl.String(),
    "TIMESTAMP": pl.Datetime("us", "UTC"),
    "DATE": pl.Date(),
}
ADDITIVE = frozenset({"COUNT", "SUM"})
COUNTS = frozenset({"COUNT", "APPROX_DISTINCT", "EXACT_DISTINCT"})
SKETCHES = frozenset({"APPROX_DISTINCT", "APPROX_PERCENTILE"})
UNMERGEABLE = frozenset({"EXACT_DISTINCT", "EXACT_PERCENTILE"})
ROW_TIME, ROW_KEY = "#time", "#key"
"""Columns of the frame by which first and last are decided: the default time dimension, then the primary key."""


@dataclass(frozen=True, slots=True)
class DimensionSpec:
    """A dimension: a column of the frame of the same name. Types have the names of the contract's, without prefix."""

    name: str
    type: str
    time: bool = False
    scale: int = 0

    @property
    def polars(self) -> pl.DataType:
        """The column's type in Polars."""
        return pl.Decimal(38, self.scale) if self.type == "DECIMAL" else POLARS_TYPES[self.type]


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """A measure: ``type`` is that of its input, which is the frame's column ``@name``, null where its filter fails.

    A count of rows counts the rows where that column is not null, too.
    """

    name: str
    kind: str
    type: str = "INT64"
    scale: int = 0
    percentile: float = 0.5
    numerator: str = ""
    denominator: str = ""
    unit: str = ""

    @property
    def input(self) -> str:
        """Name of the input column."""
        return f"@{self.name}"


@dataclass(frozen=True, slots=True)
class OracleModel:
    """A dataset. The frame is sorted by ``ROW_TIME`` and ``ROW_KEY``."""

    dataset: str
    default_time: str
    frame: pl.DataFrame
    dimensions: Mapping[str, DimensionSpec]
    measures: Mapping[str, MeasureSpec] = field(default_factory=dict)

    @property
    def types(self) -> Mapping[str, pl.DataType]:
        """Types of the dimensions in Polars."""
        return {name: spec.polars for name, spec in self.dimensions.items()}

    def leaves(self, names: Iterable[str]) -> list[MeasureSpec]:
        """The measures that are aggregated: ratios replaced by their operands."""
        found: dict[str, MeasureSpec] = {}
        for name in names:
            spec = self.measures[name]
            if spec.kind == "RATIO":
                found |= {leaf.name: leaf for leaf in self.leaves([spec.numerator, spec.denominator])}
            else:
                found[name] = spec
        return list(found.values())

    def mergeable(self, name: str) -> bool:
        """Whether partial results of the measure merge."""
        return all(leaf.kind not in UNMERGEABLE for leaf in self.leaves([name]))

    def sketched(self, name: str) -> bool:
        """Whether the measure's values are estimates."""
        return any(leaf.kind in SKETCHES for leaf in self.leaves([name]))

    def result(self, name: str) -> tuple[str, int]:
        """Type and scale of the finished measure."""
        spec = self.measures[name]
        if spec.kind in COUNTS:
            return "INT64", 0
        return (
            (spec.type, spec.scale) if spec.kind in {"SUM", "MIN", "MAX", "FIRST", "LAST"} else ("DOUBLE", 0)
        )
