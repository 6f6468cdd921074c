"""Builds the trees of a scan: rows, groups, states, and what of the finish is pushed down.

Places for values are made in the order of :mod:`broker.adapters.sql.shape`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlglot import exp

from broker.adapters.sql.dataset import DatasetSql
from broker.adapters.sql.filters import Operand, predicate
from broker.adapters.sql.measures import StateSql, finished, state_columns, values_input
from broker.adapters.sql.shape import dated, pieces, restricted
from broker.adapters.sql.statements import Compiled, first_text
from broker.adapters.sql.types import atom, by_code_point, cast, quoted, wire
from broker.adapters.sql.values import DIALECT, Places, render
from broker.domain.measures import SKETCHES
from broker.domain.model import Dimension
from broker.domain.plan import BUCKET, Finish, Leaf, Scan, key_name, state_name
from broker.domain.query import conditions
from broker.domain.rollup import ALWAYS, FAR_FUTURE, FAR_PAST
from broker.domain.timegrid import TimeGrid
from broker.domain.values import Column, ColumnRole, DataType
from broker.policy.fanout import fan_out_violation

_GROUPS = "g"


@dataclass(frozen=True, slots=True)
class Selected:
    """One selected column. ``group`` is the expression to group by when it is not the selected one."""

    column: Column
    node: exp.Expr
    key: bool = False
    group: exp.Expr | None = None


class ScanBuilder:
    """Builds the statements of one shape of a scan; ``states`` says how a measure's are made, if not from the rows."""

    def __init__(
        self,
        scan: Scan,
        leaves: Mapping[str, Leaf],
        sql: DatasetSql,
        *,
        states: Callable[[Leaf], Sequence[StateSql]] | None = None,
        pretty: bool = False,
    ) -> None:
        self._scan, self._leaves, self._sql, self._pretty = scan, leaves, sql, pretty
        self._states = states or partial(state_columns, sql=sql)

    def grouped(self, finish: Finish | None) -> Compiled:
        """The states of all measures but the sketched ones by key; a finish adds having, order and limit."""
        assert self._safe(), (
            "a one-to-many join repeats rows under a measure; the query should have been refused"
        )
        places = Places()
        keys, where = self._keys(places), self._where(places)
        measures = [self._leaves[m.name] for m in self._scan.leaves if m.kind not in SKETCHES]
        states = [
            Selected(
                Column(
                    state_name(leaf.measure.name, s.state.name),
                    s.state.type,
                    ColumnRole.MEASURE,
                    s.state.scale,
                ),
                s.node,
            )
            for leaf in measures
            for s in self._states(leaf)
        ]
        used = [alias for leaf in measures for alias in leaf.measure.tables]
        query = self._select([*keys, *states], used, where)
        if finish is not None and finish.pushed_down:
            query = self._pushed_down(query, [*keys, *states], finish, places)
        return self._compiled(query, [*keys, *states], places)

    def values(self, leaf: Leaf) -> Compiled:
        """The distinct inputs of a sketch by key, with how often each occurs."""
        places = Places()
        keys, where = self._keys(places), self._where(places)
        node, kind, scale = values_input(leaf, self._sql)
        where.append(exp.Not(this=exp.Is(this=atom(node.copy()), expression=exp.Null())))
        if leaf.measure.filter:
            where.append(self._sql.expression(leaf.measure.filter))
        count = Selected(Column("weight", DataType.INT64, ColumnRole.MEASURE), exp.Count(this=exp.Star()))
        columns = [*keys, self._key(Column("value", kind, ColumnRole.MEASURE, scale), node), count]
        return self._compiled(self._select(columns, leaf.measure.tables, where), columns, places)

    def _safe(self) -> bool:
        scan = self._scan
        used = [d.name for d in scan.dimensions] + _members(scan)
        if scan.time is not None and restricted(scan):
            used.append(scan.time.name)
        return fan_out_violation(scan.dataset, used, [m.name for m in scan.leaves]) is None

    def _keys(self, places: Places) -> list[Selected]:
        scan, keys = self._scan, []
        if scan.grid is not None and scan.time is not None:
            position = _position(scan.grid, scan.time.type, self._sql.dimension(scan.time), places)
            keys.append(Selected(Column(BUCKET, DataType.INT64, ColumnRole.TIME_BUCKET), position, key=True))
        for i, dimension in enumerate(scan.dimensions):
            column = Column(key_name(i), dimension.type, ColumnRole.DIMENSION, dimension.scale)
            keys.append(self._key(column, self._sql.dimension(dimension)))
        return keys

    @staticmethod
    def _key(column: Column, node: exp.Expr) -> Selected:
        """A key; instants and dates are grouped as such and become integers once per group."""
        selected = wire(node, column.type)
        return Selected(column, selected, key=True, group=node.copy() if selected is not node else None)

    def _where(self, places: Places) -> list[exp.Expr]:
        scan, found = self._scan, []
        if scan.time is not None and restricted(scan):
            found += self._bounds(scan.time, places)
        if scan.filter is not None:
            found.append(predicate(scan.filter, places, self._operand))
        found += [self._sql.policy(policy, places) for policy in scan.policies]
        return found

    def _bounds(self, time: Dimension, places: Places) -> list[exp.Expr]:
        """The rows within the bounds, or within the pieces of them that are to be read."""
        spans = pieces(self._scan)
        if spans is None:
            return self._between(time, places)
        if ALWAYS in spans:
            return []
        found = [
            exp.and_(*self._between(time, places, low=lo != FAR_PAST, high=hi != FAR_FUTURE), dialect=DIALECT)
            for lo, hi in spans
        ]
        if any(lo == FAR_PAST or hi == FAR_FUTURE for lo, hi in spans):
            found.append(exp.Is(this=self._sql.expression(time.sql), expression=exp.Null()))
        return [exp.Paren(this=exp.or_(*found, dialect=DIALECT, copy=False))]

    def _between(
        self, time: Dimension, places: Places, *, low: bool = True, high: bool = True
    ) -> list[exp.Expr]:
        """The ends that a range has, as conditions.

        A wall clock differs from UTC by less than a day: for a dimension with a zone, looser bounds on the bare column
        let an index be used.
        """
        kind = DataType.DATE if dated(time) else DataType.TIMESTAMP
        instant, found, loose = self._sql.dimension(time), [], []
        day = exp.Interval(this=exp.Literal.string("1"), unit=exp.Var(this="DAY"))
        for wanted, comparison, shifted in ((low, exp.GTE, exp.Sub), (high, exp.LT, exp.Add)):
            if wanted:
                end = places.add(kind)
                found.append(comparison(this=instant.copy(), expression=end))
                if time.stored_zone:
                    near = shifted(this=_clock(end), expression=day.copy())
                    loose.append(comparison(this=self._sql.expression(time.sql), expression=near))
        return [*found, *loose]

    def _operand(self, name: str) -> Operand:
        dimension, time = self._scan.dataset.dimensions[name], self._scan.time
        hidden = self._scan.pieces is not None and time is not None and dimension.sql == time.sql
        return Operand(self._sql.comparable(dimension), dimension.type, hidden)

    def _select(
        self, columns: list[Selected], tables: list[str] | tuple[str, ...], where: list[exp.Expr]
    ) -> exp.Select:
        query = self._sql.rows([*self._own_tables(), *tables])
        for i, selected in enumerate(columns):
            alias = quoted(selected.column.name, i)
            query = query.select(exp.Alias(this=selected.node, alias=alias), copy=False)
        if where:
            query.set("where", exp.Where(this=exp.and_(*where, dialect=DIALECT, copy=False)))
        groups = [
            selected.group or exp.Literal.number(i) for i, selected in enumerate(columns, 1) if selected.key
        ]
        return query.group_by(*groups, copy=False) if groups else query

    def _own_tables(self) -> list[str]:
        """The aliases that keys, bounds, filter and policies read."""
        scan = self._scan
        found = [alias for d in scan.dimensions for alias in d.tables]
        if scan.time is not None and restricted(scan):
            found += scan.time.tables
        found += [alias for name in _members(scan) for alias in scan.dataset.dimensions[name].tables]
        return [*found, *(alias for policy in scan.policies for alias in policy.tables)]

    def _pushed_down(
        self, groups: exp.Select, columns: list[Selected], finish: Finish, places: Places
    ) -> exp.Select:
        """The groups, kept by having, in the order asked for, up to the limit."""
        names = {c.column.name: (quoted(c.column.name, i), c.column.type) for i, c in enumerate(columns)}
        kinds = {output.column.name: output.column.type for output in finish.outputs}
        outputs = {output.column.name: output for output in finish.outputs}

        def column(name: str) -> exp.Expr:
            return exp.Column(this=names[name][0].copy(), table=exp.to_identifier(_GROUPS, quoted=True))

        def value(name: str) -> exp.Expr:
            return finished(
                outputs[name], self._leaves, lambda measure, state: column(state_name(measure, state))
            )

        def operand(name: str) -> Operand:
            return Operand(value(name), _wire_type(kinds[name]))

        query = exp.Select().from_(groups.subquery(_GROUPS))
        for c in columns:
            query = query.select(column(c.column.name), copy=False)
        if finish.having is not None:
            query.set("where", exp.Where(this=predicate(finish.having, places, operand)))
        keys = dict(
            zip((k.name for k in finish.keys), (c.column.name for c in columns if c.key), strict=True)
        )
        order: list[exp.Expr] = []
        for key in finish.order:
            node = column(keys[key.member]) if key.member in keys else value(key.member)
            kind = names[keys[key.member]][1] if key.member in keys else kinds[key.member]
            order.append(_ordered(node, kind, descending=key.descending, nulls_first=key.nulls_first))
        given = {key.member for key in finish.order}
        for answer, own in keys.items():
            if answer not in given:
                order.append(_ordered(column(own), names[own][1]))
        if order:
            query = query.order_by(*order, copy=False)
        return query.limit(places.add(DataType.INT64), copy=False) if finish.limit else query

    def _compiled(self, query: exp.Select, columns: list[Selected], places: Places) -> Compiled:
        found = tuple(c.column for c in columns)
        force = first_text(found, quoted(found[0].name).name)
        ordered, limited = bool(query.args.get("order")), bool(query.args.get("limit"))
        text = render(query, places, pretty=self._pretty)
        dated = render(query.select(exp.CurrentTimestamp()), places).prepared
        return Compiled(text, dated, found, force, ordered, limited)


def _position(grid: TimeGrid, kind: DataType, time: exp.Expr, places: Places) -> exp.Expr:
    """The number of a row's bucket: found among the beginnings, or by the days since the first, which are one value.

    A list of instants takes the client a microsecond for each. The sessions of the broker are in UTC.
    """
    if kind is DataType.DATE or not grid.days:
        found = exp.Anonymous(this="WIDTH_BUCKET", expressions=[time, places.add(kind, array=True)])
        return exp.Sub(this=found, expression=exp.Literal.number(1))
    first = places.add(DataType.DATE)
    passed = exp.Paren(this=exp.Sub(this=cast(time, DataType.DATE), expression=first))
    if grid.days == 1:
        return passed
    return exp.Div(this=passed, expression=exp.Literal.number(grid.days), typed=True)


def _ordered(
    node: exp.Expr, kind: DataType, *, descending: bool = False, nulls_first: bool = False
) -> exp.Expr:
    by = by_code_point(node) if kind is DataType.STRING else node
    return exp.Ordered(this=by, desc=descending, nulls_first=nulls_first)


def _wire_type(kind: DataType) -> DataType:
    """The type that values in wire form have: instants and dates are integers."""
    return DataType.INT64 if kind in (DataType.TIMESTAMP, DataType.DATE) else kind


def _clock(instant: exp.Expr) -> exp.Expr:
    """The wall clock of UTC at an instant, comparable with a timestamp without zone."""
    return exp.Paren(this=exp.AtTimeZone(this=instant.copy(), zone=exp.Literal.string("UTC")))


def _members(scan: Scan) -> list[str]:
    """The dimensions that the filter names."""
    return [condition.member for _, condition in conditions(scan.filter)]
