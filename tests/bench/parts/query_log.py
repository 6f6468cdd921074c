"""A log of varied queries over the flights: which are asked, in what order, and how the log is kept in a file.

Dashboards are panels that are asked again and again with other literals (ranges moved by up to forty days, filters with
other values), a few of them often and many seldom, and now and then one is replaced by a new one. Explorations are new
questions, or one of the last forty with other literals. All shapes come from the generator of the answers' tests.
"""

from __future__ import annotations

import csv
import io
import lzma
from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, date, timedelta
from itertools import accumulate
from pathlib import Path

from broker.domain.estimate import Estimate
from broker.domain.request import RequestKind
from broker.policy.shape import Shape
from querybroker.v1 import query_pb2 as q
from tests.oracle.choosing import Chooser
from tests.oracle.generate import QuerySpace
from tests.oracle.values import value

KEPT = Path(__file__).with_name("queries.csv.xz")
PANELS, RECENT, MOVED_DAYS = 250, 40, 40
_TEXTS = frozenset({q.FILTER_OPERATOR_CONTAINS, q.FILTER_OPERATOR_STARTS_WITH, q.FILTER_OPERATOR_ENDS_WITH})
Asked = tuple[RequestKind, QuerySpace, q.Query]


@dataclass(frozen=True, slots=True)
class Entry:
    """One query of the log as it was run: ``fingerprint`` names its cost fingerprint, ``seconds`` its best run."""

    kind: RequestKind
    fingerprint: str
    seconds: float
    rows: int
    size: int
    estimate: Estimate
    shape: Shape


def questions(spaces: Sequence[QuerySpace], chooser: Chooser) -> Iterator[Asked]:
    """Endless queries; the first space is asked most."""

    def fresh() -> tuple[QuerySpace, q.Query]:
        space = spaces[0] if chooser.chance(85) else chooser.choice(spaces)
        return space, space.query(chooser)

    panels = [fresh() for _ in range(PANELS)]
    often = list(accumulate(1_000_000 // (i + 3) for i in range(PANELS)))
    explored: list[tuple[QuerySpace, q.Query]] = []
    while True:
        if chooser.chance(60):
            if chooser.chance(3):
                panels[chooser.integer(0, PANELS - 1)] = fresh()
            space, query = panels[bisect(often, chooser.integer(0, often[-1] - 1))]
            yield RequestKind.DASHBOARD, space, varied(chooser, query, space)
        elif explored and chooser.chance(50):
            space, query = explored[-1 - chooser.integer(0, min(len(explored), RECENT) - 1)]
            yield RequestKind.EXPLORE, space, varied(chooser, query, space)
        else:
            explored.append(fresh())
            yield RequestKind.EXPLORE, *explored[-1]


def varied(chooser: Chooser, query: q.Query, space: QuerySpace) -> q.Query:
    """The same question with other literals: values of conditions are drawn again, the range is moved."""
    new = q.Query()
    new.CopyFrom(query)
    for condition in conditions(new.filter) if new.HasField("filter") else ():
        known = space.known.get(condition.member)
        if not known or not condition.values or condition.operator in _TEXTS:
            continue
        chosen = [chooser.choice(known) for _ in condition.values]
        if condition.operator == q.FILTER_OPERATOR_BETWEEN:
            chosen.sort()
        del condition.values[:]
        condition.values.extend([value(each) for each in chosen])
    if new.HasField("time"):
        move(new, timedelta(days=chooser.integer(-MOVED_DAYS, MOVED_DAYS)))
    return new


def move(query: q.Query, by: timedelta) -> None:
    """Moves an absolute range; with rolling windows it has to begin where a bucket does, and stays."""
    if query.calculations.rolling_windows:
        return
    match query.time.WhichOneof("range"):
        case "dates":
            for day in (query.time.dates.start_date, query.time.dates.end_date):
                moved = date(day.year, day.month, day.day) + by
                day.year, day.month, day.day = moved.year, moved.month, moved.day
        case "absolute":
            for instant in (query.time.absolute.start_time, query.time.absolute.end_time):
                instant.FromDatetime(instant.ToDatetime(tzinfo=UTC) + by)
        case _:
            pass


def conditions(node: q.Filter) -> Iterator[q.Condition]:
    """Every condition of a tree."""
    match node.WhichOneof("node"):
        case "condition":
            yield node.condition
        case "not_filter":
            yield from conditions(node.not_filter)
        case "all_of":
            for child in node.all_of.filters:
                yield from conditions(child)
        case "any_of":
            for child in node.any_of.filters:
                yield from conditions(child)
        case None:
            return


def write(entries: Iterable[Entry], path: Path = KEPT) -> None:
    """Keeps a log: a compressed CSV file of rounded numbers, in which fingerprints are numbered as they appear."""
    numbers: dict[str, int] = {}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_columns())
    for entry in entries:
        known = [entry.kind.value, numbers.setdefault(entry.fingerprint, len(numbers))]
        measured = [_rounded(entry.seconds), _rounded(entry.rows), _rounded(entry.size)]
        guessed = [_rounded(v) for v in (*astuple(entry.estimate), *astuple(entry.shape))]
        table.writerow([*known, *measured, *guessed])
    path.write_bytes(lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME))


def read(path: Path = KEPT) -> list[Entry]:
    """The log that was kept."""
    found = []
    for row in csv.DictReader(io.StringIO(lzma.decompress(path.read_bytes()).decode())):
        estimate = {f.name: _typed(f.default, row[f.name]) for f in fields(Estimate)}
        shape = {f.name: _typed(f.default, row[f"shape_{f.name}"]) for f in fields(Shape)}
        estimate |= {"rows": int(float(row["rows"])), "width": int(float(row["width"]))}
        entry = Entry(
            RequestKind(row["kind"]),
            row["fingerprint"],
            float(row["seconds"]),
            int(float(row["row_count"])),
            int(float(row["byte_count"])),
            Estimate(**estimate),  # type: ignore[arg-type] # every value has the type of its field's default
            Shape(**shape),  # type: ignore[arg-type] # as above
        )
        found.append(entry)
    return found


def _columns() -> list[str]:
    estimate = [f.name for f in fields(Estimate)]
    shape = [f"shape_{f.name}" for f in fields(Shape)]
    return ["kind", "fingerprint", "seconds", "row_count", "byte_count", *estimate, *shape]


def _rounded(number: float) -> str:
    """Three digits that matter; times and costs are not known better."""
    return f"{float(number):.3g}"


def _typed(default: object, text: str) -> object:
    number = float(text)
    if isinstance(default, bool):
        return bool(number)
    return int(number) if isinstance(default, int) else number
