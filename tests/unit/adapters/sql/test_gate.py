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


PASSING = [
    "SELECT carrier FROM flights",
    "SELECT carrier FROM flights;",
    "select Carrier, count(*) from Flights group by 1 order by 2 desc limit 10 offset 5",
    "(SELECT carrier FROM flights)",
    "SELECT * FROM flights",
    "SELECT f.* FROM flights AS f",
    "SELECT count(*) FROM flights",
    "SELECT count(DISTINCT carrier) FILTER (WHERE late) FROM flights",
    "SELECT 1",
    "SELECT carrier -- a comment\n FROM flights /* another */",
    "WITH a AS (SELECT carrier, count(*) n FROM flights GROUP BY 1), b AS (SELECT max(n) m FROM a) SELECT * FROM a, b",
    "SELECT x FROM (SELECT carrier, origin FROM flights) AS t(x, y) WHERE y IN ('JFK', 'LGA')",
    "SELECT carrier FROM flights UNION ALL SELECT dest FROM flights ORDER BY carrier LIMIT 3",
    "SELECT carrier FROM flights f WHERE EXISTS (SELECT 1 FROM flights g WHERE g.dest = f.dest)",
    "SELECT carrier FROM flights WHERE origin IN (SELECT dest FROM flights)",
    "SELECT (SELECT max(speed) FROM flights) AS fastest",
    "SELECT carrier, rank() OVER (PARTITION BY origin ORDER BY count(*) DESC) FROM flights GROUP BY carrier, origin",
    "SELECT sum(dep_delay) OVER (ORDER BY time_hour ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM flights",
    "SELECT percentile_cont(0.9) WITHIN GROUP (ORDER BY dep_delay) FROM flights",
    "SELECT date_trunc('month', time_hour) AS m, avg(speed) FROM flights GROUP BY 1 HAVING count(*) > 3",
    "SELECT extract(hour FROM time_hour AT TIME ZONE 'Europe/Berlin'), time_hour - interval '90 minutes' FROM flights",
    "SELECT CASE WHEN late THEN 'late' ELSE 'fine' END AS how, coalesce(nullif(carrier, ''), '?') FROM flights",
    "SELECT carrier || '-' || dest, lower(carrier), substring(dest FROM 1 FOR 2), trim(dest) FROM flights",
    "SELECT cast(speed AS numeric(10, 2)), speed::int, '2013-01-01'::date, NOT late, -month FROM flights",
    "SELECT carrier FROM flights WHERE dest LIKE 'A%' AND origin ILIKE 'j%' AND month BETWEEN 1 AND 3",
    "SELECT a.carrier FROM flights a LEFT JOIN flights b USING (tailnum) CROSS JOIN (SELECT 1 AS one) c",
    "SELECT DISTINCT carrier FROM flights WHERE carrier IS NOT NULL AND late IS TRUE AND dest IS DISTINCT FROM origin",
    "SELECT month + 1, month * 2, month % 3, month / 4, round(speed), greatest(month, 2), power(month, 2) FROM flights",
    "TABLE flights",
]


@pytest.mark.parametrize("text", PASSING)
def test_passes(text: str) -> None:
    rebuilt = gated(text).text()
    assert len(sqlglot.parse(rebuilt, dialect="postgres")) == 1


def refusals(code: str, *texts: str) -> list[tuple[str, str]]:
    return [(text, code) for text in texts]


REFUSED = [
    *refusals(
        "SQL_STATEMENT",
        "", " ", ";", "-- only a comment",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE flights",
        "INSERT INTO flights VALUES (1)",
        "UPDATE flights SET carrier = 'x'",
        "DELETE FROM flights",
        "MERGE INTO flights USING flights f ON true WHEN MATCHED THEN DELETE",
        "TRUNCATE flights",
        "CREATE TABLE x AS SELECT 1",
        "DROP TABLE flights",
        "ALTER TABLE flights ADD COLUMN x int",
        "GRANT ALL ON flights TO public",
        "COPY flights TO '/tmp/x'",
        "COPY (SELECT 1) TO PROGRAM 'sh'",
        "DO $$ BEGIN PERFORM pg_sleep(10); END $$",
        "CALL f()",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM flights",
        "LISTEN x",
        "NOTIFY x",
        "SET statement_timeout = 0",
        "SHOW all",
        "RESET ALL",
        "PREPARE x AS SELECT 1",
        "EXECUTE x",
        "BEGIN", "COMMIT",
        "LOCK TABLE flights",
        "VACUUM",
        "VALUES (1), (2)",
        "hello",
    ),
    *refusals(
        "SQL_SYNTAX",
        "SELECT FROM WHERE", "SELECT 'open", "SELECT (1", "SELECT 1 +",
        "SELECT carrier FROM flights AS OF SYSTEM TIME 1",
    ),
    *refusals(
        "SQL_FORM",
        "SELECT carrier INTO x FROM flights",
        "SELECT carrier FROM flights FOR UPDATE",
        "SELECT carrier FROM flights FOR SHARE SKIP LOCKED",
        "WITH x AS (DELETE FROM flights RETURNING *) SELECT * FROM x",
        "WITH x AS (INSERT INTO flights VALUES (1) RETURNING *) SELECT * FROM x",
        "WITH x AS (UPDATE flights SET month = 1 RETURNING *) SELECT * FROM x",
        "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n FROM x) SELECT n FROM x",
        "WITH x AS MATERIALIZED (SELECT 1) SELECT * FROM x",
        "SELECT carrier FROM flights TABLESAMPLE SYSTEM (1)",
        "SELECT carrier FROM ONLY flights",
        "SELECT x FROM flights, LATERAL (SELECT 1 AS x) y",
        "SELECT carrier FROM flights NATURAL JOIN flights b",
        "SELECT carrier FROM flights FETCH FIRST 3 ROWS WITH TIES",
        "SELECT carrier FROM flights LIMIT (SELECT 1)",
        "SELECT carrier FROM flights LIMIT 1 + 1",
        "SELECT DISTINCT ON (carrier) carrier FROM flights",
        "SELECT carrier FROM flights GROUP BY CUBE (carrier, origin)",
        "SELECT carrier FROM flights GROUP BY ROLLUP (carrier)",
        "SELECT carrier FROM flights WINDOW w AS (ORDER BY carrier)",
        "SELECT 'pg_class'::regclass",
        "SELECT carrier::regproc FROM flights",
        "SELECT carrier::xml FROM flights", "SELECT carrier::json FROM flights",
        "SELECT carrier::int[] FROM flights",
        "SELECT carrier::my_type FROM flights",
        "SELECT ARRAY[1, 2]", "SELECT month[1] FROM flights",
        "SELECT carrier ~ '(a+)+$' FROM flights",
        "SELECT carrier SIMILAR TO 'a' FROM flights",
        "SELECT carrier -> 'x' FROM flights",
        "SELECT carrier @> dest FROM flights",
        "SELECT carrier OPERATOR(pg_catalog.=) dest FROM flights",
        "SELECT E'\\x41'", "SELECT U&'\\0041'", "SELECT $$x$$", "SELECT B'1'", "SELECT X'1F'", "SELECT N'x'",
        "SELECT pg_catalog.pg_sleep(1)", "SELECT public.f(1)",
        "SELECT (flights).carrier FROM flights",
        "SELECT :name", "SELECT ?", "SELECT @x",
        "SELECT month = ANY (SELECT 1) FROM flights",
        "SELECT carrier COLLATE \"C\" FROM flights",
        "SELECT date_part('day FROM time_hour), (SELECT passwd FROM pg_shadow', time_hour) FROM flights",
        "SELECT extract(pg_sleep FROM time_hour) FROM flights",
        "SELECT interval '1' bogus",
        "SELECT sum(month) OVER w FROM flights",
        "SELECT x FROM unnest(ARRAY[1]) AS t(x)",
        "SELECT * FROM (VALUES (1)) AS t(x)",
        "SELECT * FROM ROWS FROM (generate_series(1, 2)) AS t(x)",
    ),
    *refusals(
        "SQL_FUNCTION",
        "SELECT current_user", "SELECT session_user", "SELECT current_schema", "SELECT current_catalog",
        "SELECT pg_sleep(10)",
        "SELECT PG_SLEEP(10) FROM flights",
        "SELECT \"pg_sleep\"(10)",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT current_setting('data_directory')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT nextval('s')",
        "SELECT pg_terminate_backend(1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT query_to_xml('delete from flights', true, true, '')",
        "SELECT table_to_xml('pg_shadow', true, true, '')",
        "SELECT dblink('dbname=x', 'select 1')",
        "SELECT version()",
        "SELECT txid_current()",
        "SELECT random()",
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 1000000000)",
        "SELECT md5(carrier) FROM flights",
        "SELECT row_to_json(flights) FROM flights",
        "SELECT array_agg(carrier) FROM flights",
        "SELECT string_agg(carrier, ',') FROM flights",
        "SELECT regexp_replace(carrier, '(a+)+', '') FROM flights",
        "SELECT generate_series(1, 1000000000)",
        "SELECT clock_timestamp()",
        "SELECT inet_server_addr()",
        "SELECT has_table_privilege('x', 'select')",
        "SELECT to_regclass('pg_shadow')",
        "SELECT * FROM dblink('x', 'y') AS t(a int)",
        "SELECT x FROM generate_series(1, 1000000000) AS x",
        "SELECT * FROM pg_ls_dir('/') AS x",
        "SELECT no_such_function(1)",
        "SELECT unnest(carrier) FROM flights",
    ),
    *refusals(
        "SQL_TABLE",
        "SELECT * FROM pg_user",
        "SELECT * FROM pg_catalog.pg_shadow",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM public.flights",
        "SELECT * FROM airlines",
        "SELECT * FROM \"Flights\"",
        "SELECT * FROM db.public.flights",
        "SELECT (SELECT max(x) FROM secrets) FROM flights",
        "SELECT carrier FROM flights WHERE EXISTS (SELECT 1 FROM pg_authid)",
        "SELECT carrier FROM flights UNION SELECT rolname FROM pg_roles",
        "WITH a AS (SELECT * FROM pg_user), pg_user AS (SELECT 1 AS x) SELECT * FROM a",
        "WITH pg_user AS (SELECT * FROM pg_user) SELECT * FROM pg_user",
        "SELECT * FROM (SELECT 1 AS x FROM flights) y, pg_user",
    ),
    *refusals(
        "SQL_COLUMN",
        "SELECT nothing FROM flights",
        "SELECT flights FROM flights",
        "SELECT f FROM flights f",
        "SELECT ctid FROM flights", "SELECT xmin FROM flights", "SELECT tableoid FROM flights",
        "SELECT user FROM flights",
        "SELECT flights.row_to_json FROM flights",
        "SELECT 1 AS row_to_json, flights.row_to_json FROM flights",
        "SELECT \"Carrier\" FROM flights",
        "SELECT air_time FROM flights",
        "SELECT distance FROM flights",
        "SELECT seats_beside FROM flights",
        "SELECT g.carrier FROM flights f",
        "SELECT carrier FROM flights ORDER BY nothing",
        "SELECT carrier FROM flights WHERE x = 1",
        "SELECT carrier AS c FROM flights WHERE c = 'x'",
        "SELECT a.carrier FROM flights a JOIN flights b USING (nothing)",
        "SELECT t.y FROM (SELECT carrier AS x FROM flights) t",
        "SELECT x FROM (SELECT count(*) FROM flights) t",
        "SELECT carrier FROM (SELECT 1 AS one) t",
        "WITH a AS (SELECT carrier FROM flights) SELECT origin FROM a",
    ),
    *refusals(
        "SQL_NAME",
        "WITH flights AS (SELECT 1 AS x) SELECT x FROM flights",
        "WITH a AS (SELECT 1 AS x), a AS (SELECT 2 AS x) SELECT x FROM a",
        "SELECT * FROM (WITH a AS (SELECT 1 AS x) SELECT x FROM a) b",
        "SELECT * FROM (WITH pg_user AS (SELECT 1 AS x) SELECT x FROM pg_user) b",
        "SELECT carrier FROM flights, flights",
        "SELECT x FROM (SELECT 1 AS x)",
        "SELECT t.x FROM (SELECT 1 AS x) AS t(a, b)",
        "SELECT c FROM flights AS f(c)",
        "SELECT g.* FROM flights f",
        "SELECT coalesce(*) FROM flights",
    ),
    *refusals(
        "SQL_SIZE",
        "SELECT " + "(" * 40 + "1" + ")" * 40,
        "SELECT " + "NOT " * 2_000 + "true",
        "SELECT " + "- " * 2_000 + "1",
        "SELECT " + "CASE WHEN true THEN " * 40 + "1" + " END" * 40,
        "SELECT " + "1, " * 3_000 + "1",
        "SELECT '" + "x" * 20_000 + "'",
        "SELECT 1 FROM " + ", ".join(f"flights f{i}" for i in range(13)),
        " UNION ALL ".join(["SELECT 1"] * 17),
    ),
]  # fmt: skip


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
