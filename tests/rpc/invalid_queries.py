"""Queries of the wrong shape."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from querybroker.v1 import query_pb2 as pb
from tests.rpc.invalid import all_of, board, case, condition, explore, nested, one, query, text

Q = "panels[0].query"
F = f"{Q}.filter.condition"
V = f"{F}.values[0]"


def time(**fields: object) -> pb.TimeSelection:
    return pb.TimeSelection(**fields)  # type: ignore[arg-type] # a test names fields of the message


def absolute(start: Timestamp | None, end: Timestamp | None) -> pb.TimeSelection:
    return time(absolute=pb.AbsoluteTimeRange(start_time=start, end_time=end))


def dates(start: Date | None, end: Date | None) -> pb.TimeSelection:
    return time(dates=pb.DateRange(start_date=start, end_date=end))


def relative(count: int, unit: int) -> pb.TimeSelection:
    return time(relative=pb.RelativeTimeRange(count=count, unit=unit))  # type: ignore[arg-type] # any number


def eq(value: pb.Value) -> pb.Filter:
    return condition(pb.FILTER_OPERATOR_EQ, value)


def calculations(**fields: object) -> pb.Calculations:
    return pb.Calculations(**fields)  # type: ignore[arg-type] # a test names fields of the message


def stamp(seconds: int, nanos: int = 0) -> Timestamp:
    return Timestamp(seconds=seconds, nanos=nanos)


DAY = Date(year=2013, month=1, day=1)
LAST = 253_402_300_799
AFTER_LAST = LAST + 1
IS_NULL = condition(pb.FILTER_OPERATOR_IS_NULL)
MANY = [text("x")] * 5_001

QUERIES = (
    case("no dataset", one(dataset=""), (f"{Q}.dataset", "REQUIRED")),
    case("long dataset", one(dataset="d" * 129), (f"{Q}.dataset", "TOO_LONG")),
    case("NUL in dataset", one(dataset="a\0b"), (f"{Q}.dataset", "INVALID_TEXT")),
    case("empty measure", one(measures=["flights", ""]), (f"{Q}.measures[1]", "REQUIRED")),
    case("long measure", one(measures=["m" * 200]), (f"{Q}.measures[0]", "TOO_LONG")),
    case("many measures", one(measures=["m"] * 101), (f"{Q}.measures", "TOO_MANY")),
    case("empty dimension", one(dimensions=[""]), (f"{Q}.dimensions[0]", "REQUIRED")),
    case("many dimensions", one(dimensions=["d"] * 33), (f"{Q}.dimensions", "TOO_MANY")),
    case("negative limit", one(limit=-1), (f"{Q}.limit", "OUT_OF_RANGE")),
    case("unknown grain", one(time=time(grain=99)), (f"{Q}.time.grain", "UNKNOWN_ENUM")),
    case("long time dimension", one(time=time(dimension="t" * 129)), (f"{Q}.time.dimension", "TOO_LONG")),
    case("unknown zone", one(time=time(zone="Mars/Olympus")), (f"{Q}.time.zone", "UNKNOWN_ZONE")),
    case("zone of the machine", one(time=time(zone="localtime")), (f"{Q}.time.zone", "UNKNOWN_ZONE")),
    case("zone with leap seconds", one(time=time(zone="right/UTC")), (f"{Q}.time.zone", "UNKNOWN_ZONE")),
    case("directory of zones", one(time=time(zone="America")), (f"{Q}.time.zone", "UNKNOWN_ZONE")),
    case("zone outside", one(time=time(zone="../../etc/passwd")), (f"{Q}.time.zone", "UNKNOWN_ZONE")),
    case(
        "range without ends",
        one(time=absolute(None, None)),
        (f"{Q}.time.absolute.start_time", "REQUIRED"),
        (f"{Q}.time.absolute.end_time", "REQUIRED"),
    ),
    case(
        "empty range",
        one(time=absolute(stamp(60), stamp(60))),
        (f"{Q}.time.absolute.end_time", "EMPTY_RANGE"),
    ),
    case(
        "range the wrong way",
        one(time=absolute(stamp(60), stamp(59))),
        (f"{Q}.time.absolute.end_time", "EMPTY_RANGE"),
    ),
    case(
        "range outside the years",
        one(time=absolute(stamp(-62_135_596_801), stamp(AFTER_LAST))),
        (f"{Q}.time.absolute.start_time", "OUT_OF_RANGE"),
        (f"{Q}.time.absolute.end_time", "OUT_OF_RANGE"),
    ),
    case(
        "range that rounds out of the years",
        one(time=absolute(stamp(0), stamp(LAST, 999_999_999))),
        (f"{Q}.time.absolute.end_time", "OUT_OF_RANGE"),
    ),
    case(
        "nanos out of range",
        one(time=absolute(stamp(0, -1), stamp(1, 1_000_000_000))),
        (f"{Q}.time.absolute.start_time", "OUT_OF_RANGE"),
        (f"{Q}.time.absolute.end_time", "OUT_OF_RANGE"),
    ),
    case(
        "range of dates without ends",
        one(time=dates(None, None)),
        (f"{Q}.time.dates.start_date", "REQUIRED"),
        (f"{Q}.time.dates.end_date", "REQUIRED"),
    ),
    case(
        "dates that do not exist",
        one(time=dates(Date(year=2013, month=2, day=29), Date(year=2013, month=13, day=1))),
        (f"{Q}.time.dates.start_date", "INVALID_DATE"),
        (f"{Q}.time.dates.end_date", "INVALID_DATE"),
    ),
    case(
        "partial date and far date",
        one(time=dates(Date(year=2013, month=2), Date(year=10_000, month=1, day=1))),
        (f"{Q}.time.dates.start_date", "INVALID_DATE"),
        (f"{Q}.time.dates.end_date", "INVALID_DATE"),
    ),
    case("empty dates", one(time=dates(DAY, DAY)), (f"{Q}.time.dates.end_date", "EMPTY_RANGE")),
    case(
        "relative range of nothing",
        one(time=relative(0, 0)),
        (f"{Q}.time.relative.count", "OUT_OF_RANGE"),
        (f"{Q}.time.relative.unit", "REQUIRED"),
    ),
    case(
        "relative range too far",
        one(time=relative(100_001, 77)),
        (f"{Q}.time.relative.count", "OUT_OF_RANGE"),
        (f"{Q}.time.relative.unit", "UNKNOWN_ENUM"),
    ),
    case("empty filter", one(filter=pb.Filter()), (f"{Q}.filter", "REQUIRED")),
    case(
        "empty child",
        one(filter=all_of([IS_NULL, pb.Filter()])),
        (f"{Q}.filter.all_of.filters[1]", "REQUIRED"),
    ),
    case(
        "condition without anything",
        one(filter=pb.Filter(condition=pb.Condition())),
        (f"{F}.member", "REQUIRED"),
        (f"{F}.operator", "REQUIRED"),
    ),
    case("unknown operator", one(filter=condition(42, text("UA"))), (f"{F}.operator", "UNKNOWN_ENUM")),
    case("no value", one(filter=condition(pb.FILTER_OPERATOR_EQ)), (f"{F}.values", "ARITY")),
    case(
        "two values",
        one(filter=condition(pb.FILTER_OPERATOR_LT, text("a"), text("b"))),
        (f"{F}.values", "ARITY"),
    ),
    case("empty IN", one(filter=condition(pb.FILTER_OPERATOR_IN)), (f"{F}.values", "ARITY")),
    case(
        "half BETWEEN", one(filter=condition(pb.FILTER_OPERATOR_BETWEEN, text("a"))), (f"{F}.values", "ARITY")
    ),
    case(
        "IS_NULL of a value",
        one(filter=condition(pb.FILTER_OPERATOR_IS_NULL, text("a"))),
        (f"{F}.values", "ARITY"),
    ),
    case("value without kind", one(filter=eq(pb.Value())), (V, "REQUIRED")),
    case("NaN", one(filter=eq(pb.Value(double_value=float("nan")))), (f"{V}.double_value", "NOT_FINITE")),
    case(
        "infinity", one(filter=eq(pb.Value(double_value=float("-inf")))), (f"{V}.double_value", "NOT_FINITE")
    ),
    case(
        "decimal in words",
        one(filter=eq(pb.Value(decimal_value="1e5"))),
        (f"{V}.decimal_value", "INVALID_DECIMAL"),
    ),
    case(
        "decimal of nothing",
        one(filter=eq(pb.Value(decimal_value=""))),
        (f"{V}.decimal_value", "INVALID_DECIMAL"),
    ),
    case(
        "decimal too long",
        one(filter=eq(pb.Value(decimal_value="1" * 101))),
        (f"{V}.decimal_value", "INVALID_DECIMAL"),
    ),
    case("NUL in a string", one(filter=eq(text("\0"))), (f"{V}.string_value", "INVALID_TEXT")),
    case("long string", one(filter=eq(text("x" * 65_537))), (f"{V}.string_value", "TOO_LONG")),
    case(
        "instant between microseconds",
        one(filter=eq(pb.Value(timestamp_value=stamp(0, 1)))),
        (f"{V}.timestamp_value", "PRECISION"),
    ),
    case(
        "instant outside the years",
        one(filter=eq(pb.Value(timestamp_value=stamp(AFTER_LAST)))),
        (f"{V}.timestamp_value", "OUT_OF_RANGE"),
    ),
    case("date of nothing", one(filter=eq(pb.Value(date_value=Date()))), (f"{V}.date_value", "INVALID_DATE")),
    case(
        "year that no int holds",
        one(filter=eq(pb.Value(date_value=Date(year=2**31 - 1, month=1, day=1)))),
        (f"{V}.date_value", "INVALID_DATE"),
    ),
    case(
        "tree too deep",
        one(filter=nested(33)),
        (f"{Q}.filter{'.not_filter' * 32}", "TOO_DEEP"),
    ),
    case("too many conditions", one(filter=all_of([IS_NULL] * 1_001)), (f"{Q}.filter", "TOO_MANY")),
    case(
        "too many values",
        one(filter=all_of([condition(pb.FILTER_OPERATOR_IN, *MANY)] * 2)),
        (f"{Q}.filter", "TOO_MANY"),
    ),
    case(
        "too many conditions in all",
        board(*[query(filter=all_of([IS_NULL] * 1_000))] * 5),
        ("panels[4].query.filter", "TOO_MANY"),
    ),
    case(
        "too many values in all",
        board(*[query(filter=condition(pb.FILTER_OPERATOR_IN, *MANY))] * 9),
        ("panels[7].query.filter", "TOO_MANY"),
    ),
    case(
        "having of the wrong shape",
        one(having=condition(0, member="")),
        (f"{Q}.having.condition.member", "REQUIRED"),
        (f"{Q}.having.condition.operator", "REQUIRED"),
    ),
    case(
        "order key of nothing",
        one(order=[pb.OrderKey(direction=7, nulls=8)]),  # type: ignore[arg-type] # any number
        (f"{Q}.order[0].member", "REQUIRED"),
        (f"{Q}.order[0].direction", "UNKNOWN_ENUM"),
        (f"{Q}.order[0].nulls", "UNKNOWN_ENUM"),
    ),
    case("many order keys", one(order=[pb.OrderKey(member="flights")] * 17), (f"{Q}.order", "TOO_MANY")),
    case(
        "comparison with nothing",
        one(calculations=calculations(compare_to=pb.CompareTo(measures=[""]))),
        (f"{Q}.calculations.compare_to.count", "OUT_OF_RANGE"),
        (f"{Q}.calculations.compare_to.unit", "REQUIRED"),
        (f"{Q}.calculations.compare_to.measures[0]", "REQUIRED"),
    ),
    case(
        "share of nothing",
        one(calculations=calculations(shares=[pb.ShareOfTotal(within=[""])])),
        (f"{Q}.calculations.shares[0].measure", "REQUIRED"),
        (f"{Q}.calculations.shares[0].within[0]", "REQUIRED"),
    ),
    case(
        "window of one bucket",
        one(calculations=calculations(rolling_windows=[pb.RollingWindow(buckets=1)])),
        (f"{Q}.calculations.rolling_windows[0].measure", "REQUIRED"),
        (f"{Q}.calculations.rolling_windows[0].buckets", "OUT_OF_RANGE"),
    ),
    case(
        "window too wide",
        one(calculations=calculations(rolling_windows=[pb.RollingWindow(measure="m", buckets=10_001)])),
        (f"{Q}.calculations.rolling_windows[0].buckets", "OUT_OF_RANGE"),
    ),
    case(
        "top of nothing",
        one(calculations=calculations(top_n=pb.TopN())),
        (f"{Q}.calculations.top_n.count", "OUT_OF_RANGE"),
        (f"{Q}.calculations.top_n.dimension", "REQUIRED"),
        (f"{Q}.calculations.top_n.by", "REQUIRED"),
    ),
    case(
        "many calculations",
        one(calculations=calculations(shares=[pb.ShareOfTotal(measure="m")] * 33)),
        (f"{Q}.calculations.shares", "TOO_MANY"),
    ),
    case("exploration of nothing", explore(query=None), ("source", "REQUIRED")),
    case("SQL of blanks", explore(query=None, sql=pb.SqlQuery(text=" \n")), ("sql.text", "REQUIRED")),
    case("SQL too long", explore(query=None, sql=pb.SqlQuery(text="x" * 100_001)), ("sql.text", "TOO_LONG")),
    case(
        "SQL with bad parameters",
        explore(query=None, sql=pb.SqlQuery(text="SELECT 1", parameters=[pb.Value(), text("x")])),
        ("sql.parameters[0]", "REQUIRED"),
    ),
    case(
        "every panel is told",
        board(query(dataset=""), query(), query(limit=-5, measures=[""])),
        ("panels[0].query.dataset", "REQUIRED"),
        ("panels[2].query.limit", "OUT_OF_RANGE"),
        ("panels[2].query.measures[0]", "REQUIRED"),
    ),
)
