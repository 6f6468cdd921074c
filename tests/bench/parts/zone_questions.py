"""Questions about the time around a change of a clock, in the zone: days, hours, weeks and months."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from zoneinfo import ZoneInfo

from querybroker import Result, policy, query
from querybroker.v1 import answer_pb2, query_service_pb2
from tests.bench.parts.zone_clocks import Change, shown
from tests.bench.parts.zone_rows import QUARTER, Bucket, Rows
from tests.oracle.zones import DAY, SECOND, ZoneClock, micros, moment

HOUR = 3600 * SECOND
DAYS = {"day": (2, 3), "week": (10, 11), "month": (20, 40)}
"""Days before the change and after it, by grain."""
ROLLED = (answer_pb2.ANSWER_KIND_ROLLUP, answer_pb2.ANSWER_KIND_HYBRID)


@dataclass(frozen=True, slots=True)
class Question:
    """Buckets of a grain in a zone between two instants; ``change`` is the one around which they are.

    Days, weeks and months are asked for between dates, hours between instants.
    """

    zone: str
    clock: ZoneClock
    change: Change
    grain: str
    low: int
    high: int
    gap_fill: bool

    def panel(self, rollup: str, dataset: str = "quarters") -> query_service_pb2.Panel:
        """The question with a rollup mode."""
        time: tuple[datetime, datetime] | tuple[str, str] = moment(self.low), moment(self.high)
        if self.grain in DAYS:
            time = self._dates()
        asked = query(
            dataset,
            measures=["events", "total"],
            time=time,
            grain=self.grain,
            zone=self.zone,
            gap_fill=self.gap_fill,
        )
        return query_service_pb2.Panel(query=asked, policy=policy(rollup=rollup, cache="bypass"))

    def truth(self, rows: Rows, clock: ZoneClock | None = None) -> list[Bucket]:
        """The buckets, added up from the rows; by another clock when one is given."""
        return rows.buckets(clock or self.clock, self.low, self.high, self.grain, empty=self.gap_fill)

    def fits(self, width: int) -> bool:
        """Whether all buckets begin at multiples of a width, so that buckets of that width can make them."""
        starts = self.clock.buckets(self.low, self.high, self.grain.upper())
        return all(start % width == 0 for start in starts[1:])

    def kinds(self) -> tuple[answer_pb2.AnswerKind.ValueType, ...]:
        """What an answer from quarters of an hour may be: live pieces are for ends within a quarter only."""
        return ROLLED[:1] if self.low % QUARTER == self.high % QUARTER == 0 else ROLLED

    def _dates(self) -> tuple[str, str]:
        low, high = (
            datetime.fromtimestamp(at // SECOND, ZoneInfo(self.zone)).date() for at in (self.low, self.high)
        )
        return low.isoformat(), high.isoformat()

    def __str__(self) -> str:
        return f"{self.grain}s of {self.zone} from {shown(self.low)} to {shown(self.high)}"


def by_date(zone: str, clock: ZoneClock, change: Change, grain: str, *, gap_fill: bool = False) -> Question:
    """Days, weeks or months around the change, between two dates."""
    today, (before, after) = clock.local(change.at) // DAY, DAYS[grain]
    low, high = clock.first_instant(today - before), clock.first_instant(today + after)
    return Question(zone, clock, change, grain, low, high, gap_fill)


def by_hour(zone: str, clock: ZoneClock, change: Change, random: Random, *, gap_fill: bool) -> Question:
    """Hours around the change; every fourth time with ends at odd seconds."""
    middle = change.at // QUARTER * QUARTER
    low, high = middle - 6 * HOUR, middle + 6 * HOUR
    if random.random() < 0.25:
        low, high = low + random.randrange(1, 900) * SECOND, high - random.randrange(1, 900) * SECOND
    return Question(zone, clock, change, "hour", low, high, gap_fill)


def questions(
    zone: str, clock: ZoneClock, change: Change, random: Random, wide: Sequence[str]
) -> Iterator[Question]:
    """Days, hours and wider buckets around the change; half of them with the empty ones."""
    gap_fill = random.random() < 0.5
    for grain in ("day", *wide):
        yield by_date(zone, clock, change, grain, gap_fill=gap_fill)
    yield by_hour(zone, clock, change, random, gap_fill=gap_fill)


def unchanged(change: Change) -> ZoneClock:
    """A clock that nobody ever changed, as it was before."""
    return ZoneClock([micros(datetime(1999, 1, 1, tzinfo=UTC))], [change.before])


def buckets(answer: Result) -> list[Bucket]:
    """The buckets of an answer, as the truth has them."""
    starts = (micros(start) for start in answer.column("at"))
    return list(zip(starts, answer.column("events"), answer.column("total"), strict=True))


def difference(found: list[Bucket], truth: list[Bucket]) -> str:
    """The first difference, for people; empty when there is none."""
    if len(found) != len(truth):
        return f"{len(found)} buckets, not {len(truth)}"
    for one, other in zip(found, truth, strict=True):
        if one != other:
            return f"{shown(one[0])} {one[1:]}, not {shown(other[0])} {other[1:]}"
    return ""
