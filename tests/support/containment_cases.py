"""Pairs of questions: the answer of the first is held, and contains that of the second, or does not."""

from __future__ import annotations

from datetime import date, timedelta

from broker.domain.principal import Principal
from broker.domain.query import (
    AllOf,
    Calculations,
    CompareTo,
    DateRange,
    Grain,
    Not,
    Operator,
    OrderKey,
    RollingWindow,
    ShareOfTotal,
    TimeSelection,
    TopN,
)
from tests.support.containment_plans import (
    BERLIN,
    BIG,
    HELD,
    LATER,
    MARCH,
    NOON,
    VANS,
    dataset,
    during,
    is_,
    keys_of,
    plan,
)
from tests.support.rollup_scans import OWN_CITY, OWN_TENANT, day

CONTAINED = {
    "the same": (HELD, HELD),
    "fewer dimensions": (HELD, plan("rides", by=("city",))),
    "no dimensions": (HELD, plan("rides", by=())),
    "dimensions in another order": (HELD, plan("rides", by=("kind", "city"))),
    "fewer measures": (HELD, plan("fare", by=("city", "kind"))),
    "no measures": (HELD, keys_of(HELD)),
    "another name of the measure": (HELD, plan("trips")),
    "weeks": (HELD, plan("rides", time=during(day(4), day(25), Grain.WEEK))),
    "the month": (HELD, plan("rides", time=during(*MARCH, Grain.MONTH))),
    "the whole range": (HELD, plan("rides", time=during(*MARCH, None))),
    "part of the range": (HELD, plan("rides", time=during(day(3), day(9)))),
    "a filter on a key": (HELD, plan("rides", where=VANS)),
    "a filter on two keys": (HELD, plan("rides", where=AllOf((VANS, Not(BERLIN))))),
    "a condition on the time, where a bucket begins": (HELD, plan("rides", where=LATER)),
    "a narrower filter than the held one": (
        plan("rides", by=("city", "kind"), where=BIG),
        plan("rides", where=BERLIN),
    ),
    "the held filter, on no key": (plan("rides", where=VANS), plan("rides", where=VANS, by=())),
    "the held filter and more": (plan("rides", where=VANS), plan("rides", where=AllOf((BERLIN, VANS)))),
    "the held condition on the time, inside of a bucket": (
        plan("rides", by=("city", "kind"), where=NOON),
        plan("rides", where=NOON),
    ),
    "no time at all": (plan("rides", "fare", time=None), plan("fare", by=(), time=None)),
    "a range without buckets": (
        plan("rides", time=during(*MARCH, None)),
        plan("rides", by=(), time=during(*MARCH, None)),
    ),
    "one bucket of a range without buckets": (
        plan("rides", time=during(day(1), day(2), None)),
        plan("rides", time=during(day(1), day(2), Grain.WEEK)),
    ),
    "an average of count and sum": (plan("paid", "fare"), plan("mean_fare", by=())),
    "an average that is not merged": (plan("mean_fare"), plan("mean_fare", where=BERLIN)),
    "averages of one value of what is left out": (plan("mean_fare"), plan("mean_fare", by=(), where=BERLIN)),
    "averages where one value is held": (
        plan("mean_fare", by=("city", "kind"), where=BERLIN),
        plan("mean_fare", by=("kind",), where=BERLIN),
    ),
    "sums of decimals whose rows may have more digits, not merged": (
        plan("fare", own=dataset(stored=())),
        plan("fare", where=BERLIN, own=dataset(stored=())),
    ),
    "a ratio of its parts": (HELD, plan("fare_per_ride", by=())),
    "a ratio that is not merged": (
        plan("fare_per_ride"),
        plan("fare_per_ride", where=BERLIN, time=during(day(2), day(5))),
    ),
    "distinct values that are not merged": (plan("all_riders"), plan("all_riders", where=BERLIN)),
    "top N": (HELD, plan("rides", "fare", calculations=Calculations(top_n=TopN(3, "city", "fare", other=True)))),
    "having, order and limit": (
        HELD,
        plan("rides", having=is_("rides", Operator.GT, 3), order=(OrderKey("rides"),), limit=3),
    ),
    "shares of it": (HELD, plan("rides", calculations=Calculations(shares=(ShareOfTotal("rides"),)))),
    "rolling windows within it": (
        HELD,
        plan("rides", time=during(day(10), day(20)), calculations=Calculations(rolling=(RollingWindow("rides", 3),))),
    ),
    "what was held with shares": (
        plan("rides", by=("city", "kind"), calculations=Calculations(shares=(ShareOfTotal("rides"),))),
        plan("rides"),
    ),
    "the range of what was held with rolling windows": (
        plan("rides", time=during(day(10), day(20)), calculations=Calculations(rolling=(RollingWindow("rides", 3),))),
        plan("rides", by=(), time=during(day(10), day(20))),
    ),
    "a comparison with what is held as well": (
        HELD,
        plan("rides", time=during(day(10), day(20)), calculations=Calculations(compare_to=CompareTo(1, Grain.WEEK))),
    ),
    "a tighter limit": (plan("rides", limit=50), plan("rides", limit=10)),
    "the same limit in another format": (plan("rides", limit=50), plan("rides", limit=50)),
    "a tighter limit under having": (
        plan("rides", limit=50, having=is_("rides", Operator.GT, 3)),
        plan("rides", limit=10, having=is_("rides", Operator.GT, 3)),
    ),
    "what a limit has not cut": (plan("rides", limit=101), plan("rides", by=())),
    "what was held with gaps filled, where rows are counted": (
        plan("rides", "fare", time=during(*MARCH, gap_fill=True)),
        plan("fare", by=()),
    ),
    "gaps to be filled": (HELD, plan("fare", time=during(day(2), day(9), gap_fill=True))),
    "days of a zone from hours": (
        plan("rides", time=during(day(2), day(29), Grain.HOUR)),
        plan("rides", time=during(day(3, 23), day(8, 23), zone="Europe/Berlin")),
    ),
    "days over a change of clocks": (
        plan("rides", time=during(day(30, 23), day(31, 22) + timedelta(days=3), Grain.HOUR, "Europe/Berlin")),
        plan("rides", time=during(day(30, 23), day(31, 22) + timedelta(days=3), zone="Europe/Berlin")),
    ),
    "quarters of an hour east of what begins there": (
        plan("rides", time=during(day(2), day(4), Grain.FIFTEEN_MINUTES)),
        plan("rides", time=during(day(2, 18, 15), day(3, 18, 15), zone="Asia/Kathmandu")),
    ),
    "dates": (
        plan("rides", time=TimeSelection("billed", Grain.DAY, range=DateRange(date(2024, 3, 1), date(2024, 4, 1)))),
        plan("rides", time=TimeSelection("billed", Grain.WEEK, range=DateRange(date(2024, 3, 4), date(2024, 3, 18)))),
    ),
}  # fmt: skip

_LOOSE = dataset(stored=())
_ONE = dataset(stored=("fare",))
REFUSED = {
    "sums of decimals whose rows may have more digits": (plan("fare", own=_LOOSE), plan("fare", by=(), own=_LOOSE)),
    "their averages": (plan("paid", "fare", own=_LOOSE), plan("mean_fare", by=(), own=_LOOSE)),
    "an average of more digits than the sum": (plan("paid", "fare", own=_ONE), plan("mean_fare", own=_ONE)),
    "a dimension that is no key": (HELD, plan("rides", by=("seats",))),
    "a filter on what is no key": (HELD, plan("rides", where=is_("seats", Operator.GT, 2))),
    "a wider filter": (plan("rides", by=("city", "kind"), where=BERLIN), plan("rides", where=BIG)),
    "no filter": (plan("rides", by=("city", "kind"), where=BERLIN), plan("rides")),
    "another filter": (plan("rides", by=("city", "kind"), where=VANS), plan("rides", where=BERLIN)),
    "a range that begins before": (HELD, plan("rides", time=during(day(1) - timedelta(days=1), day(9)))),
    "a range that ends after": (HELD, plan("rides", time=during(day(3), day(31) + timedelta(days=1)))),
    "a range that cuts a bucket": (HELD, plan("rides", time=during(day(3, 12), day(9)))),
    "a range that ends inside of a bucket": (HELD, plan("rides", time=during(day(3), day(9, 12)))),
    "a condition on the time that cuts a bucket": (HELD, plan("rides", where=NOON)),
    "a condition on the time that is no range": (HELD, plan("rides", where=is_("at", Operator.NE, day(3)))),
    "rows without a time": (HELD, plan("rides", time=None, where=is_("at", Operator.IS_NULL))),
    "no range, where a range is held": (HELD, plan("rides", time=None)),
    "a range, where no time is held": (plan("rides", time=None), plan("rides")),
    "part of a range without buckets": (
        plan("rides", time=during(*MARCH, None)),
        plan("rides", time=during(day(3), day(9), None)),
    ),
    "buckets of a range without buckets": (plan("rides", time=during(*MARCH, None)), plan("rides")),
    "another time dimension": (
        HELD,
        plan("rides", time=TimeSelection("billed", Grain.DAY, range=DateRange(date(2024, 3, 2), date(2024, 3, 9)))),
    ),
    "a finer grain": (HELD, plan("rides", time=during(day(2), day(3), Grain.HOUR))),
    "days that begin elsewhere": (HELD, plan("rides", time=during(day(2), day(9), zone="Europe/Berlin"))),
    "days of a quarter of an hour, from hours": (
        plan("rides", time=during(day(2), day(9), Grain.HOUR)),
        plan("rides", time=during(day(2, 18, 15), day(8, 18, 15), zone="Asia/Kathmandu")),
    ),
    "months from weeks": (
        plan("rides", time=during(day(4) - timedelta(days=7), day(25), Grain.WEEK)),
        plan("rides", time=during(day(4) - timedelta(days=7), day(25), Grain.MONTH)),
    ),
    "weeks, the first of which is held in part": (
        plan("rides", time=during(day(6), day(25), Grain.WEEK)),
        plan("rides", time=during(day(7), day(25), Grain.WEEK)),
    ),
    "a measure that is not held": (HELD, plan("longest")),
    "an average without its count": (plan("rides", "fare"), plan("mean_fare", by=())),
    "an average with a count of other rows": (plan("rides", "short", "fare"), plan("mean_fare", by=())),
    "averages to be merged": (plan("mean_fare"), plan("mean_fare", by=())),
    "averages of two values of what is left out": (
        plan("mean_fare"),
        plan("mean_fare", by=(), where=is_("city", Operator.IN, "Berlin", "Rome")),
    ),
    "averages to be merged by a coarser grain": (
        plan("mean_fare"),
        plan("mean_fare", time=during(*MARCH, Grain.MONTH)),
    ),
    "averages of which others are made": (
        plan("mean_fare", by=("city", "kind")),
        plan("mean_fare", by=("city", "kind"), calculations=Calculations(top_n=TopN(3, "city", "mean_fare"))),
    ),
    "averages in windows": (
        plan("mean_fare"),
        plan(
            "mean_fare",
            time=during(day(9), day(12)),
            calculations=Calculations(rolling=(RollingWindow("mean_fare", 2),)),
        ),
    ),
    "a ratio to be merged": (plan("fare_per_ride"), plan("fare_per_ride", by=())),
    "deviations to be merged": (plan("spread", "fare", "paid"), plan("spread", by=())),
    "first values to be merged": (plan("first_fare"), plan("first_fare", by=())),
    "distinct values to be merged": (plan("all_riders"), plan("all_riders", by=())),
    "sketches to be merged": (plan("riders"), plan("riders", by=())),
    "what a limit may have cut": (plan("rides", limit=100), plan("rides", by=())),
    "a looser limit": (plan("rides", limit=100), plan("rides", limit=101)),
    "no limit": (plan("rides", limit=100), plan("rides")),
    "a tighter limit in another order": (
        plan("rides", limit=100, order=(OrderKey("rides"),)),
        plan("rides", limit=10, order=(OrderKey("rides", descending=True),)),
    ),
    "what having has left out": (plan("rides", having=is_("rides", Operator.GT, 3)), plan("rides", by=())),
    "other groups than having has left": (
        plan("rides", having=is_("rides", Operator.GT, 3), limit=50),
        plan("rides", having=is_("rides", Operator.GT, 2), limit=10),
    ),
    "what top N has left out": (
        plan("rides", calculations=Calculations(top_n=TopN(3, "city", "rides"))),
        plan("rides"),
    ),
    "what top N has put together": (
        plan("rides", calculations=Calculations(top_n=TopN(3, "city", "rides", other=True))),
        plan("rides", by=()),
    ),
    "what was held with gaps filled, where no rows are counted": (
        plan("fare", "paid", time=during(*MARCH, gap_fill=True)),
        plan("fare", by=()),
    ),
    "groups of one row that is there also of nothing": (
        plan("fare", by=(), time=during(day(1), day(2), None)),
        plan("fare", by=(), time=during(day(1), day(2), Grain.DAY)),
    ),
    "the windows before the held range": (
        plan("rides", time=during(day(10), day(20))),
        plan("rides", time=during(day(10), day(20)), calculations=Calculations(rolling=(RollingWindow("rides", 3),))),
    ),
    "what windows were read for, before the range": (
        plan("rides", time=during(day(10), day(20)), calculations=Calculations(rolling=(RollingWindow("rides", 3),))),
        plan("rides", time=during(day(8), day(12))),
    ),
    "a comparison with what is not held": (
        HELD,
        plan("rides", time=during(day(3), day(9)), calculations=Calculations(compare_to=CompareTo(1, Grain.WEEK))),
    ),
    "another definition": (HELD, plan("rides", own=dataset(version="2"))),
    "rows of somebody else": (
        plan("rides", own=dataset(OWN_TENANT)),
        plan("rides", own=dataset(OWN_TENANT), who=Principal("bob", "other")),
    ),
    "rows for other attributes": (
        plan("rides", own=dataset(OWN_CITY), who=Principal("a", "t", attributes={"city": "Berlin"})),
        plan("rides", own=dataset(OWN_CITY), who=Principal("a", "t", attributes={"city": "Paris"})),
    ),
    "rows under other policies": (
        plan("rides", own=dataset(OWN_TENANT)),
        plan("rides", own=dataset(OWN_TENANT, OWN_CITY)),
    ),
    "all rows, from those of one": (plan("rides", own=dataset(OWN_TENANT)), plan("rides")),
    "those of one, from all rows": (plan("rides"), plan("rides", own=dataset(OWN_TENANT))),
}  # fmt: skip
