"""Places for values, and the two texts that come of them."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from sqlglot import exp, parse_one

from broker.adapters.sql.values import DIALECT, Place, Places, checked_text, literal, render
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.values import DataType

HOSTILE = [
    "",
    "'",
    "''",
    "\\",
    "\\'; DROP TABLE flights; --",
    "$1",
    "${tenant}",
    "--",
    "/* x",
    "\n\r\t",
    "\\N",
    'a"b',
    "日本\U0001f600",
    "\ufeff",
    "%s %(x)s :x ?",
    "E'\\''",
    "$$x$$",
]


def both(*values: tuple[DataType, object]) -> tuple[str, str]:
    """The prepared and the literal text of a SELECT of the values."""
    places = Places()
    query = exp.Select()
    for kind, value in values:
        query = query.select(places.add(kind, array=isinstance(value, tuple)))
    text = render(query, places)
    return text.prepared, text.literal([value for _, value in values])  # type: ignore[misc] # values of any type


def test_prepared_text_numbers_places_and_casts_them() -> None:
    prepared, _ = both((DataType.INT64, 1), (DataType.STRING, "x"), (DataType.TIMESTAMP, ()))
    assert prepared == "SELECT CAST($1 AS BIGINT), CAST($2 AS TEXT), CAST($3 AS TIMESTAMPTZ[])"


def test_literals_of_every_type() -> None:
    instant = datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC)
    _, text = both(
        (DataType.INT64, -5),
        (DataType.DOUBLE, 1e300),
        (DataType.DECIMAL, Decimal("1E+2")),
        (DataType.BOOL, True),
        (DataType.STRING, "it's"),
        (DataType.TIMESTAMP, instant),
        (DataType.DATE, date(2024, 2, 29)),
        (DataType.STRING, ("a", "b'c")),
        (DataType.DATE, (date(2024, 1, 1), date(2024, 1, 2))),
    )
    assert text == (
        "SELECT CAST(-5 AS BIGINT), CAST('1e+300' AS DOUBLE PRECISION), CAST('100' AS DECIMAL), "
        "CAST(TRUE AS BOOLEAN), CAST('it''s' AS TEXT), "
        "CAST('2024-02-29T12:30:01.000005+00:00' AS TIMESTAMPTZ), CAST('2024-02-29' AS DATE), "
        "CAST(ARRAY['a', 'b''c'] AS TEXT[]), CAST('{2024-01-01,2024-01-02}' AS DATE[])"
    )


@pytest.mark.parametrize("value", HOSTILE)
def test_a_text_is_one_literal_and_the_same_text(value: str) -> None:
    text = literal(value, Place(DataType.STRING))
    parsed = parse_one(f"SELECT {text}, 1", dialect=DIALECT)
    assert isinstance(parsed, exp.Select)
    assert len(parsed.expressions) == 2
    assert isinstance(parsed.expressions[0], exp.Literal)
    assert parsed.expressions[0].this == value


def test_a_place_may_stand_in_several_places() -> None:
    places = Places()
    first, second = places.add(DataType.INT64), places.add(DataType.INT64)
    text = render(exp.Select().select(second, first, second.copy()), places)
    assert text.prepared == "SELECT CAST($2 AS BIGINT), CAST($1 AS BIGINT), CAST($2 AS BIGINT)"
    assert text.literal([7, 8]) == "SELECT CAST(8 AS BIGINT), CAST(7 AS BIGINT), CAST(8 AS BIGINT)"


def test_a_string_of_the_model_that_looks_like_a_place_is_not_one() -> None:
    places = Places()
    query = exp.Select().select(exp.Literal.string("$1 {0}"), places.add(DataType.STRING))
    text = render(query, places)
    assert text.literal(["$1"]) == "SELECT '$1 {0}', CAST('$1' AS TEXT)"


def test_every_place_must_be_used() -> None:
    places = Places()
    places.add(DataType.INT64)
    with pytest.raises(AssertionError, match="no place"):
        render(exp.Select().select(exp.Null()), places)


@pytest.mark.parametrize("value", ["a\x00b", "\ud800"])
def test_text_that_postgresql_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(BrokerError) as caught:
        checked_text(value, "filter")
    assert caught.value.reason is ErrorReason.INVALID_REQUEST
    assert caught.value.violations[0].code == "VALUE_TEXT"
