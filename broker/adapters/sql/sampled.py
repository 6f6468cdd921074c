"""Statements that draw blocks of a table and add them up: the scan's own rows, grouped by key and block first.

The unit is the number of a block. A seed draws the same numbers from every partition, so the blocks of one number are
one unit, and the sample of a partitioned table is one of the numbers up to that of its longest partition.

``TABLESAMPLE SYSTEM`` does not say how many blocks it drew: those without matching rows leave nothing. The statement
counts them by drawing them again, without reading any. PostgreSQL draws block b when the hash of (b, s), two integers
of 32 bits of which s is the hash of the seed, is below the rate times 2**32 (system_nextsampleblock in tsm_system.c).
That is hashoidvector of the two. A fifth of its time takes hashfloat8 of the double that has these 8 bytes, whose
neighbours differ by one in b: the statement goes that way after it has seen that both agree, which depends on the order
of bytes. One seed in a thousand makes no finite double.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from broker.adapters.sql.build import ScanBuilder, Selected
from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.measures import state_columns
from broker.adapters.sql.types import cast
from broker.adapters.sql.values import DIALECT, Places, SqlText, render
from broker.domain.plan import Leaf, Scan, key_name, state_name
from broker.domain.sample import MOST_GROUPS, Figure, exponents
from broker.domain.values import Column, ColumnRole, DataType

_BLOCK = "block"

EXTENT = """
WITH RECURSIVE tree AS (
  SELECT oid, relkind FROM pg_class WHERE oid = to_regclass($1)
  UNION
  SELECT c.oid, c.relkind
    FROM tree JOIN pg_inherits AS i ON i.inhparent = tree.oid JOIN pg_class AS c ON c.oid = i.inhrelid
)
SELECT bool_and(relkind IN ('r', 'm', 'p')) AS drawable,
       max(CASE WHEN relkind IN ('r', 'm') THEN pg_relation_size(oid) END) / current_setting('block_size')::bigint AS blocks
  FROM tree
"""  # noqa: E501 - one expression


@dataclass(frozen=True, slots=True)
class Sampling:
    """The statement of a shape: its text, whose last three values are percent, seed and blocks, and its keys."""

    text: SqlText
    keys: int


class SampledBuilder(ScanBuilder):
    """Builds the statement that adds up a sample for the figures of a plan."""

    def __init__(self, scan: Scan, leaves: Mapping[str, Leaf], sql: DatasetSql) -> None:
        super().__init__(scan, leaves, sql)

    def sampled(self, figures: tuple[Figure, ...]) -> Sampling:
        """One row for each group: how many blocks were drawn, the key, the blocks with rows of it, and the sums."""
        assert self._safe(), "a one-to-many join repeats rows under a measure"
        places = Places()
        keys, where = self._keys(places), self._where(places)
        wanted = {column: i for i, column in enumerate(dict.fromkeys(c for f in figures for c in f.columns))}
        measures = [self._leaves[m.name] for m in self._scan.leaves]
        found = {
            state_name(leaf.measure.name, each.state.name): each.node
            for leaf in measures
            for each in state_columns(leaf, self._sql)
        }
        block = Selected(Column(_BLOCK, DataType.STRING, ColumnRole.DIMENSION), self._number(), key=True)
        totals = [
            Selected(
                Column(f"v{i}", DataType.DOUBLE, ColumnRole.MEASURE),
                exp.Coalesce(this=cast(found[name], DataType.DOUBLE), expressions=[exp.Literal.number(0)]),
            )
            for name, i in wanted.items()
        ]
        names = [f"key{i}" for i in range(len(keys))]
        renamed = [
            Selected(Column(name, k.column.type, k.column.role, k.column.scale), k.node, k.key, k.group)
            for name, k in zip(names, keys, strict=True)
        ]
        used = [alias for leaf in measures for alias in leaf.measure.tables]
        cells = self._select([*renamed, block, *totals], used, where)
        percent, seed, blocks = (
            places.add(kind) for kind in (DataType.DOUBLE, DataType.DOUBLE, DataType.INT64)
        )
        source = cells.args["from_"].this
        source.set("sample", _system(percent, seed))
        sums = [text for figure in figures for text in _sums(figure, wanted)]
        query = exp.Select().from_(cells.subquery("cells"))
        for node in (_drawn(percent, seed, blocks), *map(_raw, (*names, "count(*)", *sums))):
            query = query.select(node, copy=False)
        if names:
            query = query.group_by(*map(_raw, names), copy=False)
        query = query.limit(MOST_GROUPS + 1, copy=False)
        return Sampling(render(query, places), len(names))

    def rows(self) -> SqlText:
        """The rows of the drawn blocks, those of one block with equal keys as one; the values are percent and seed."""
        places = Places()
        keys = self._keys(places)
        measures = [self._leaves[m.name] for m in self._scan.leaves]
        block = Selected(
            Column(key_name(len(keys)), DataType.INT64, ColumnRole.DIMENSION),
            _raw(f"('x' || encode({self._number().this}, 'hex'))::bit(32)::bigint"),
            key=True,
            group=self._number(),
        )
        states = [
            Selected(
                Column(state_name(state_name(leaf.measure.name, s.state.name), "v"), s.state.type), s.node
            )
            for leaf in measures
            for s in state_columns(leaf, self._sql)
        ]
        used = [alias for leaf in measures for alias in leaf.measure.tables]
        query = self._select([*keys, block, *states], used, [])
        query.args["from_"].this.set(
            "sample", _system(places.add(DataType.DOUBLE), places.add(DataType.DOUBLE))
        )
        return render(query, places)

    def _number(self) -> exp.Var:
        alias = exp.to_identifier(self._sql.dataset.name, quoted=True).sql(dialect=DIALECT)
        return _raw(
            f"substr(tidsend({alias}.ctid), 1, 4)"
        )  # a third of the time that reading it as text takes


def _raw(text: str) -> exp.Var:
    return exp.Var(this=text)


def drawn_text() -> SqlText:
    """The statement that counts drawn blocks; its values are percent, seed and blocks."""
    places = Places()
    percent, seed, blocks = (places.add(kind) for kind in (DataType.DOUBLE, DataType.DOUBLE, DataType.INT64))
    return render(exp.Select(expressions=[_drawn(percent, seed, blocks)]), places)


def _system(percent: exp.Expr, seed: exp.Expr) -> exp.TableSample:
    return exp.TableSample(method=exp.Var(this="SYSTEM"), size=percent.copy(), seed=seed.copy())


def _drawn(percent: exp.Expr, seed: exp.Expr, blocks: exp.Expr) -> exp.Expr:
    """The number of drawn blocks; with the values at hand the planner settles the cases, and plans only one."""
    p, s, b = (node.sql(dialect=DIALECT) for node in (percent, seed, blocks))
    hashed = f"(hashfloat8({s})::bigint & 4294967295)"
    exponent = f"(({hashed} >> 20) & 2047)"
    sign = f"CASE WHEN {hashed} >> 31 = 1 THEN -1 ELSE 1 END"
    step = f"(power(2::float8, {exponent} - 1075) * {sign})"
    first = f"(({hashed} & 1048575 | 1048576) * power(2::float8, {exponent} - 1043) * {sign})"
    quick = f"hashfloat8((SELECT {first}) + b * (SELECT {step}))"
    plain = f"hashoidvector((b::text || ' ' || {hashed}::text)::oidvector)"
    least = f"round(4294967296 * ({p})::float4::float8 / 100)::bigint"

    def count(hash_: str) -> str:
        numbers = f"(SELECT generate_series(0, {b} - 1)) AS numbers (b)"
        return f"(SELECT count(*) FROM {numbers} WHERE ({hash_}::bigint & 4294967295) < {least})"  # noqa: S608 - places

    agree = f"hashfloat8({first} + {step}) = hashoidvector(('1 ' || {hashed}::text)::oidvector)"
    return _raw(
        f"CASE WHEN {exponent} IN (0, 2047) THEN {count(plain)} WHEN {agree} THEN {count(quick)} "
        f"ELSE {count(plain)} END"
    )


def _sums(figure: Figure, columns: Mapping[str, int]) -> list[str]:
    """The aggregates of a figure: of every product of powers, then how many blocks have each column."""
    above = f"v{columns[figure.above]}"
    below = f"v{columns[figure.below]}" if figure.below else ""
    found = [f"sum({'*'.join([above] * a + [below] * b)})" for a, b in exponents(figure)]
    return [*found, *(f"count(nullif({column}, 0))" for column in (above, below) if column)]
