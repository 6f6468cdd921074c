"""Conditions and values as people write them."""

from __future__ import annotations

import pytest
from google.type.date_pb2 import Date
from hypothesis import given
from hypothesis import strategies as st

from broker.cli.ask.conditions import parse_condition
from broker.cli.ask.literals import parse_value, value_of
from broker.cli.ask.problems import UnreadableError
from querybroker.v1 import query_pb2
from querybroker.v1.query_pb2 import Condition, Filter, FilterGroup, Value


def condition(member: str, operator: str, *values: Value) -> Filter:
    number = query_pb2.FilterOperator.Value(f"FILTER_OPERATOR_{operator}")
    return Filter(condition=Condition(member=member, operator=number, values=values))


def text(value: str) -> Value:
    return Value(string_value=value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("JFK", text("JFK")),
        ("15", Value(int64_value=15)),
        ("-3", Value(int64_value=-3)),
        ("007", text("007")),
        ("12.50", Value(decimal_value="12.50")),
        ("1e3", Value(double_value=1000)),
        ("TRUE", Value(bool_value=True)),
        ("2013-01-31", Value(date_value=Date(year=2013, month=1, day=31))),
        ("1.2.3", text("1.2.3")),
        ("nan", text("nan")),
    ],
)
def test_unquoted_text_is_the_narrowest_thing_it_looks_like(given: str, expected: Value) -> None:
    assert parse_value(given) == expected


def test_instants_keep_their_offset_and_their_microseconds() -> None:
    eastern = parse_value("2013-01-31T08:00:00.000001-05:00").timestamp_value
    assert (eastern.seconds, eastern.nanos) == (1359637200, 1000)
    assert parse_value("2013-01-31T13:00Z").timestamp_value.seconds == eastern.seconds


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("null", "is null"),
        ("2013-02-30", "not a date"),
        ("2013-01-01T25:00Z", "not in the calendar"),
        ("2013-01-01T10:00", "append Z"),
        ("9223372036854775808", "64 bits"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write_instead(given: str, part: str) -> None:
    with pytest.raises(UnreadableError, match=part):
        parse_value(given)


def test_values_of_files_keep_the_type_that_yaml_gave_them() -> None:
    assert value_of("15") == text("15")
    assert value_of(2.5) == Value(decimal_value="2.5")
    assert value_of(False) == Value(bool_value=False)
    with pytest.raises(UnreadableError, match="not a mapping"):
        value_of({})


def test_and_binds_closer_than_or_and_not_closest() -> None:
    a, b, c = (condition(name, "EQ", Value(int64_value=1)) for name in "abc")
    assert parse_condition("a = 1 or not b = 1 and c = 1") == Filter(
        any_of=FilterGroup(
            filters=[a, Filter(all_of=FilterGroup(filters=[Filter(not_filter=b), c]))],
        )
    )
    assert parse_condition("(a = 1 or b = 1) AND c == 1") == Filter(
        all_of=FilterGroup(filters=[Filter(any_of=FilterGroup(filters=[a, b])), c])
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a != x", condition("a", "NE", text("x"))),
        ("a <> x", condition("a", "NE", text("x"))),
        ("a<=5", condition("a", "LE", Value(int64_value=5))),
        ("a in x, 'y z'", condition("a", "IN", text("x"), text("y z"))),
        ("a not in (x,y)", condition("a", "NOT_IN", text("x"), text("y"))),
        ("a between 1 and 2", condition("a", "BETWEEN", Value(int64_value=1), Value(int64_value=2))),
        ("a is null", condition("a", "IS_NULL")),
        ("a Is Not Null", condition("a", "IS_NOT_NULL")),
        ("a contains 'it''s'", condition("a", "CONTAINS", text("it's"))),
        ('a starts with "x""y"', condition("a", "STARTS_WITH", text('x"y'))),
        ("a ends_with 'and'", condition("a", "ENDS_WITH", text("and"))),
        ("a = ''", condition("a", "EQ", text(""))),
    ],
)
def test_every_operator(given: str, expected: Filter) -> None:
    assert parse_condition(given) == expected


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("", "name of a dimension"),
        ("a", "expected a comparison"),
        ("a = ", "expected a value"),
        ("a ~ 1", "'~' at column 3"),
        ("a = 'x", "quote that is not closed at column 5"),
        ("a = 1 b = 2", "`and`, `or` or the end instead of 'b' at column 7"),
        ("(a = 1", "expected `\\)`"),
        ("a in (1, 2", "expected `,` or `\\)`"),
        ("a between 1", "the value that ends the range"),
        ("a not 5", "expected `in`"),
        ("and = 1", "name of a dimension"),
        ("a is 5", "expected `null`"),
        ("a starts x", "expected `with`"),
        ("a ! 1", "cannot read '!' at column 3"),
    ],
)
def test_what_cannot_be_read_is_shown_with_its_place(given: str, part: str) -> None:
    with pytest.raises(UnreadableError, match=part):
        parse_condition(given)


_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).map(lambda name: f"x{name}")
_leaves = st.builds(
    lambda name, operator, value: condition(name, operator, text(value)),
    _names,
    st.sampled_from(["EQ", "LT", "CONTAINS", "IN"]),
    st.text(max_size=8),
)
_trees = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda f: Filter(all_of=FilterGroup(filters=f))),
        st.lists(inner, min_size=2, max_size=3).map(lambda f: Filter(any_of=FilterGroup(filters=f))),
        inner.map(lambda f: Filter(not_filter=f)),
    ),
    max_leaves=8,
)
_WORDS = {"EQ": "=", "LT": "<", "CONTAINS": "contains", "IN": "in"}


def written(tree: Filter) -> str:
    """The tree as text, with more parentheses than needed."""
    match tree.WhichOneof("node"):
        case "all_of":
            return "(" + " and ".join(map(written, tree.all_of.filters)) + ")"
        case "any_of":
            return "(" + " or ".join(map(written, tree.any_of.filters)) + ")"
        case "not_filter":
            return f"not {written(tree.not_filter)}"
        case _:
            name = query_pb2.FilterOperator.Name(tree.condition.operator).removeprefix("FILTER_OPERATOR_")
            value = tree.condition.values[0].string_value.replace("'", "''")
            return f"{tree.condition.member} {_WORDS[name]} '{value}'"


@given(_trees)
def test_a_tree_that_is_written_down_is_read_back(tree: Filter) -> None:
    assert parse_condition(written(tree)) == tree
