"""The gate: what passes, what does not, and that whatever passes is rebuilt from known parts."""

import random
import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlglot
from sqlglot import exp

from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.gate import Gated, check
from broker.adapters.sql.gate_rules import GateLimits
from broker.domain.errors import BrokerError, ErrorReason, Violation
from broker.domain.model import RowPolicy
from broker.domain.principal import Principal
from broker.domain.query import SqlQuery
from broker.domain.values import Column, DataType, Scalar
from tests.support.datasets import flights
from tests.support.gate_cases import PASSING, REFUSED

POLICY = RowPolicy("own", "flights.carrier = {attributes.carrier}", ("flights",), ("all",))
PRINCIPAL = Principal("ada", "acme", attributes={"carrier": "U'A"})
EVERYTHING = Principal("root", "acme", frozenset({"all"}))


def gated(text: str, *parameters: Scalar, principal: Principal = PRINCIPAL) -> Gated:
    dataset = flights(policies=[POLICY])
    return check(SqlQuery(text, parameters), {"flights": DatasetSql(dataset)}, principal, GateLimits())


def refused(text: str, *parameters: Scalar) -> tuple[Violation, ...]:
    with pytest.raises(BrokerError) as caught:
        gated(text, *parameters)
    assert caught.value.reason is ErrorReason.INVALID_REQUEST
    assert caught.value.violations
    return caught.value.violations


@pytest.mark.parametrize("text", PASSING)
def test_passes(text: str) -> None:
    rebuilt = gated(text).text()
    assert len(sqlglot.parse(rebuilt, dialect="postgres")) == 1


@pytest.mark.parametrize(("text", "code"), REFUSED)
def test_refused(text: str, code: str) -> None:
    assert code in {v.code for v in refused(text)}


def test_every_violation_is_named_with_its_place() -> None:
    found = refused("SELECT pg_sleep(1), nothing,\n 'x'::xml FROM flights f, pg_user\nWHERE f.bad = $2", 1)
    assert {v.code for v in found} == {
        "SQL_FUNCTION", "SQL_FORM", "SQL_TABLE", "SQL_COLUMN", "SQL_PARAMETER",
    }  # fmt: skip
    fields = {v.code: v.field for v in found}
    assert fields["SQL_TABLE"] == "text"
    assert "parameters[0]" in {v.field for v in found}
    assert any("line 3" in v.description and "bad" in v.description for v in found)


def test_a_name_is_proposed() -> None:
    (column,) = refused("SELECT carier FROM flights")
    assert "'carrier'" in column.description
    (table,) = refused("SELECT carrier FROM fligths")
    assert "'flights'" in table.description


def test_one_mistake_is_told_once() -> None:
    assert len(refused("SELECT a, b, c FROM nowhere WHERE d = 1")) == 1


def test_row_policies_stand_in_every_occurrence_of_a_dataset() -> None:
    text = gated(
        "WITH a AS (SELECT carrier FROM flights) SELECT a.carrier FROM a JOIN flights b ON a.carrier = b.carrier "
        "WHERE EXISTS (SELECT 1 FROM flights c)"
    ).text()
    assert text.count("WHERE (flights.carrier = CAST('U''A' AS TEXT))") == 3
    assert text.count("FROM public.flights") == 3
    assert "U''A" not in gated("SELECT carrier FROM flights", principal=EVERYTHING).text()


def test_only_the_dimensions_that_are_used_are_computed() -> None:
    text = gated("SELECT count(*) FROM flights WHERE dest_name = 'x'", principal=EVERYTHING).text()
    assert "dest_airport" in text
    assert "airlines" not in text
    assert "speed" not in text


def test_parameters_are_typed_literals() -> None:
    text = gated(
        "SELECT $1, $2, $3, $4, $5, $6, $7, $1 LIMIT $2",
        "it's", 5, 1.5, Decimal("2.50"), True, datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1),
    ).text()  # fmt: skip
    assert text == (
        "SELECT CAST('it''s' AS TEXT), CAST(5 AS BIGINT), CAST('1.5' AS DOUBLE PRECISION), CAST('2.50' AS DECIMAL), "
        "CAST(TRUE AS BOOLEAN), CAST('2024-01-01T00:00:00+00:00' AS TIMESTAMPTZ), CAST('2024-01-01' AS DATE), "
        "CAST('it''s' AS TEXT) LIMIT CAST(5 AS BIGINT)"
    )


@pytest.mark.parametrize(
    ("text", "parameters", "field"),
    [
        ("SELECT $1", (), "text"),
        ("SELECT $0", (1,), "text"),
        ("SELECT $2", (1, 2), "parameters[0]"),
        ("SELECT 1", (1,), "parameters[0]"),
        ("SELECT $x", (1,), "text"),
        ("SELECT $1", ("a\x00b",), "parameters[0]"),
        ("SELECT '\x00'", (), "text"),
        ("SELECT '\ud800'", (), "text"),
    ],
)
def test_parameters_and_text_that_do_not_fit(text: str, parameters: tuple[Scalar, ...], field: str) -> None:
    assert field in {v.field for v in refused(text, *parameters)}


HOSTILE = [
    "'; DROP TABLE flights; --",
    "\\'; DROP TABLE flights; --",
    "'' OR true",
    "*/ DROP TABLE flights /*",
    "$1",
    "%s",
    "\n;\n",
    '"',
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_strings_stay_strings(value: str) -> None:
    doubled = value.replace("'", "''")
    for rebuilt in (
        gated(f"SELECT carrier FROM flights WHERE carrier = '{doubled}'", principal=EVERYTHING).text(),
        gated("SELECT carrier FROM flights WHERE carrier = $1", value, principal=EVERYTHING).text(),
    ):
        (tree,) = sqlglot.parse(rebuilt, dialect="postgres")
        assert tree is not None
        assert [n.this for n in tree.find_all(exp.Literal) if n.is_string] == [value]


@pytest.mark.parametrize("name", ['a"; DROP TABLE flights; --', 'a"" b', "A B", "select", "日本"])
def test_hostile_names_stay_names(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    rebuilt = gated(f"SELECT carrier AS {quoted} FROM flights AS {quoted}", principal=EVERYTHING).text()
    (tree,) = sqlglot.parse(rebuilt, dialect="postgres")
    assert isinstance(tree, exp.Select)
    assert tree.expressions[0].alias == name


def test_names_are_folded_as_postgresql_does_and_all_are_quoted() -> None:
    text = gated('SELECT F.CARRIER AS Name FROM FLIGHTS F ORDER BY "name"', principal=EVERYTHING).text()
    assert text.startswith('SELECT "f"."carrier" AS "name" FROM (')
    assert text.endswith('ORDER BY "name"')


def test_comments_do_not_come_through() -> None:
    assert "secret" not in gated("SELECT 1 /* secret */ -- secret").text()


def test_the_wrapped_statement_has_wire_columns_and_a_limit() -> None:
    columns = (
        Column("carrier", DataType.STRING),
        Column("at", DataType.TIMESTAMP),
        Column("n", DataType.DECIMAL, scale=2),
    )
    text = gated("SELECT 'x', now(), 1").wrapped(columns, 11)
    assert text == (
        'SELECT CAST("result"."c0" AS TEXT) AS "carrier", '
        'CAST(EXTRACT(EPOCH FROM CAST("result"."c1" AS TIMESTAMPTZ)) * 1000000 AS BIGINT) AS "at", '
        'CAST("result"."c2" AS DECIMAL(38, 2)) AS "n" '
        'FROM (SELECT \'x\', CURRENT_TIMESTAMP, 1) AS "result"("c0", "c1", "c2") LIMIT 11'
    )


def test_digits_of_decimals_that_declare_them() -> None:
    assert gated("SELECT 1::numeric(10, 2), 2, 3::numeric(5, 1) AS x, 4::numeric").scales == {0: 2, 2: 1}
    assert gated("SELECT 1::numeric(10, 2) UNION SELECT 2").scales == {0: 2}
    assert gated("SELECT *, 1::numeric(10, 2) FROM flights").scales == {}


def test_any_text_is_taken_or_refused() -> None:
    """Statements with words dropped, swapped, and put in from others: nothing but a refusal may come of them."""
    chance = random.Random(3)
    texts = PASSING + [text for text, _ in REFUSED if len(text) < 500]
    split = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\w+|\s+|.", re.DOTALL)
    words = [word for text in texts for word in split.findall(text)]
    taken = 0
    for _ in range(1_500):
        mixed = split.findall(chance.choice(texts))
        for _ in range(chance.randint(1, 4)):
            position = chance.randrange(len(mixed) + 1)
            mixed[position : position + chance.randint(0, 2)] = chance.sample(words, chance.randint(0, 2))
        try:
            rebuilt = gated("".join(mixed), principal=EVERYTHING).text()
        except BrokerError as error:
            assert error.reason is ErrorReason.INVALID_REQUEST  # noqa: PT017 - one of two good ends
            continue
        taken += 1
        (tree,) = sqlglot.parse(rebuilt, dialect="postgres")
        assert tree is not None
        named = {cte.alias for cte in tree.find_all(exp.CTE)}
        for table in tree.find_all(exp.Table):
            assert table.db == "public" or (not table.db and table.name in named), rebuilt
    assert taken > 20
