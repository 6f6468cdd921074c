"""Resolves a query against its dataset: every name, type and range is checked, and a plan comes out.

Pure: the moment of the request and the principal are arguments. All violations are collected and raised together, with
paths as in the contract's ``Query``.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from broker.domain.errors import Violation, invalid
from broker.domain.fingerprint import fingerprint
from broker.domain.measures import leaves, order_keys, result_type, states
from broker.domain.model import Dataset, Dimension, MeasureKind
from broker.domain.plan import Finish, Leaf, Output, Plan, Scan
from broker.domain.principal import Principal
from broker.domain.query import AbsoluteRange, Filter, Query, conditions
from broker.domain.timegrid import build
from broker.domain.values import Column, ColumnRole
from broker.policy.calculations import added_columns, check_calculations, compared_measures, has_sketches
from broker.policy.conditions import Lookup, Member, check, nearest
from broker.policy.fanout import fan_out_violation
from broker.policy.ranges import GridBuilder, ResolvedTime, comparison, resolve_time


def resolve_query(
    query: Query, dataset: Dataset, principal: Principal, now: datetime, grids: GridBuilder = build
) -> Plan:
    """The plan of a query.

    Raises:
        BrokerError: INVALID_REQUEST with every violation.
    """
    violations = _check_members(query, dataset)
    known = not violations
    selection = query.time
    time = dataset.time_dimension(selection.dimension) if selection is not None else None
    time_name = (
        time.name if time is not None and selection is not None and selection.grain is not None else ""
    )
    where, found = check(query.filter, "filter", _dimension_lookup(dataset))
    violations += found
    having, found = check(query.having, "having", _measure_lookup(query, dataset))
    violations += found
    resolved = ResolvedTime(None, None, "UTC")
    if selection is not None:
        lead = max((w.buckets - 1 for w in query.calculations.rolling), default=0)
        if time is None:
            violations.append(_unknown_time(selection.dimension, dataset))
        elif time_name and time_name in query.dimensions:
            text = f"{time_name!r} is the time dimension and is grouped by already; leave it out"
            violations.append(Violation("dimensions", text, "DUPLICATE"))
        if time is not None:
            resolved, found = resolve_time(selection, time, min(lead, 10_000), now, grids)
            violations += found
        if selection.gap_fill and selection.grain is None:
            violations.append(Violation("time.gap_fill", "gap filling needs a time grain", "REQUIRED"))
    if known:
        violations += check_calculations(query, dataset, time_name)
        named = [*_named(query.filter), *([time.name] if time is not None else [])]
        used = [*query.dimensions, *(name for name in named if name in dataset.dimensions)]
        if problem := fan_out_violation(dataset, tuple(used), query.measures):
            violations.append(Violation("measures", problem, "FAN_OUT"))
    if violations:
        raise invalid(violations)
    columns = _columns(query, dataset, time, resolved, time_name)
    violations += _check_order(query, columns)
    if violations:
        raise invalid(violations)
    return _plan(
        replace(query, filter=where, having=having), dataset, principal, time, resolved, columns, grids
    )


def _check_members(query: Query, dataset: Dataset) -> list[Violation]:
    found: list[Violation] = []
    for field, names, known in (
        ("measures", query.measures, dataset.measures),
        ("dimensions", query.dimensions, dataset.dimensions),
    ):
        other = dataset.dimensions if field == "measures" else dataset.measures
        for i, name in enumerate(names):
            if name not in known:
                hint = (
                    f"; it is one of the {'dimensions' if field == 'measures' else 'measures'}"
                    if name in other
                    else ""
                )
                text = f"{dataset.name!r} has no {field[:-1]} {name!r}{hint or nearest(name, list(known))}"
                found.append(Violation(f"{field}[{i}]", text, "UNKNOWN_MEMBER"))
            elif names.index(name) < i:
                found.append(Violation(f"{field}[{i}]", f"{name!r} is selected more than once", "DUPLICATE"))
    grouped = query.time is not None and query.time.grain is not None
    if not query.measures and not query.dimensions and not grouped:
        found.append(
            Violation("measures", "select at least one measure, dimension or time grain", "REQUIRED")
        )
    if query.limit < 0:
        found.append(Violation("limit", f"must not be negative, and is {query.limit}", "OUT_OF_RANGE"))
    return found


def _unknown_time(name: str, dataset: Dataset) -> Violation:
    times = [d.name for d in dataset.dimensions.values() if d.time]
    if name and name in dataset.dimensions:
        text = f"{name!r} is not a time dimension{nearest('', times)}"
    elif name:
        text = f"{dataset.name!r} has no time dimension {name!r}{nearest(name, times)}"
    else:
        text = f"{dataset.name!r} has no default time dimension; name one{nearest('', times)}"
    return Violation("time.dimension", text, "UNKNOWN_MEMBER")


def _named(node: Filter | None) -> list[str]:
    return [condition.member for _, condition in conditions(node)]


def _dimension_lookup(dataset: Dataset) -> Lookup:
    def lookup(name: str) -> Member | str:
        dimension = dataset.dimensions.get(name)
        if dimension is not None:
            return Member(dimension.type, dimension.scale)
        if name in dataset.measures:
            return f"{name!r} is a measure; filter it with having"
        return f"{dataset.name!r} has no dimension {name!r}{nearest(name, list(dataset.dimensions))}"

    return lookup


def _measure_lookup(query: Query, dataset: Dataset) -> Lookup:
    def lookup(name: str) -> Member | str:
        if name in query.measures and name in dataset.measures:
            return Member(*result_type(dataset.measures[name]))
        if name in dataset.dimensions:
            return f"{name!r} is a dimension; filter it with filter"
        return f"{name!r} is not a selected measure{nearest(name, list(query.measures))}"

    return lookup


def _columns(
    query: Query, dataset: Dataset, time: Dimension | None, resolved: ResolvedTime, time_name: str
) -> tuple[Column, ...]:
    columns: list[Column] = []
    if time is not None and time_name:
        columns.append(Column(time.name, time.type, ColumnRole.TIME_BUCKET, zone=resolved.zone))
    for name in query.dimensions:
        dimension = dataset.dimensions[name]
        columns.append(Column(name, dimension.type, ColumnRole.DIMENSION, scale=dimension.scale))
    measures: dict[str, Column] = {}
    for name in query.measures:
        measure = dataset.measures[name]
        kind, scale = result_type(measure)
        measures[name] = Column(name, kind, ColumnRole.MEASURE, scale=scale, unit=measure.unit)
    return (*columns, *measures.values(), *added_columns(query.calculations, query, measures))


def _check_order(query: Query, columns: tuple[Column, ...]) -> list[Violation]:
    names = [column.name for column in columns]
    found: list[Violation] = []
    seen: set[str] = set()
    for i, key in enumerate(query.order):
        if key.member not in names:
            text = f"{key.member!r} is not a column of the answer{nearest(key.member, names)}"
            found.append(Violation(f"order[{i}].member", text, "UNKNOWN_MEMBER"))
        elif key.member in seen:
            found.append(
                Violation(f"order[{i}].member", f"{key.member!r} is given more than once", "DUPLICATE")
            )
        seen.add(key.member)
    return found


def _plan(
    query: Query,
    dataset: Dataset,
    principal: Principal,
    time: Dimension | None,
    resolved: ResolvedTime,
    columns: tuple[Column, ...],
    grids: GridBuilder,
) -> Plan:
    """Puts the checked pieces together."""
    policies = tuple(p for p in dataset.row_policies if not any(principal.has(grant) for grant in p.unless))
    owned = leaves(dataset, query.measures)
    main = Scan(
        dataset=dataset,
        dimensions=tuple(dataset.dimensions[name] for name in query.dimensions),
        leaves=owned,
        time=time,
        bounds=resolved.bounds,
        grid=resolved.grid,
        filter=query.filter,
        policies=policies,
        principal=principal,
    )
    compared: Scan | None = None
    shift: tuple[int, ...] = ()
    compare = query.calculations.compare_to
    if compare is not None:
        asked = _without_lead(resolved)
        try:
            bounds, grid, shift = comparison(asked, compare, query.time.grain if query.time else None, grids)
        except (
            OverflowError,
            ValueError,
        ) as error:  # before the first day that there is, or too many buckets
            text = f"leads to a range that cannot be resolved: {error}"
            raise invalid([Violation("calculations.compare_to", text, "RANGE")]) from None
        wanted = leaves(dataset, compared_measures(query))
        compared = replace(main, leaves=wanted, bounds=bounds, grid=grid)
    outputs = tuple(
        Output(
            column, (measure.numerator, measure.denominator) if measure.kind is MeasureKind.RATIO else None
        )
        for column in columns
        if column.role is ColumnRole.MEASURE
        for measure in (dataset.measures[column.name],)
    )
    plain = query.calculations.empty and not (query.time is not None and query.time.gap_fill)
    finish = Finish(
        columns=columns,
        keys=tuple(c for c in columns if c.role in (ColumnRole.TIME_BUCKET, ColumnRole.DIMENSION)),
        leaves=tuple(Leaf(m, states(m, order_keys(dataset))) for m in owned),
        outputs=outputs,
        grid=resolved.grid,
        lead=resolved.lead,
        gap_fill=query.time is not None and query.time.gap_fill,
        comparison=compared.grid if compared is not None else None,
        shift=shift,
        calculations=query.calculations,
        having=query.having,
        order=query.order,
        limit=query.limit,
        pushed_down=plain and not has_sketches(dataset, query.measures),
    )
    absolute = replace(query.time, range=resolved.bounds) if query.time is not None else None
    identity = fingerprint(*identifying(replace(query, time=absolute), main))
    return Plan(query, main, compared, finish, identity)


def identifying(query: Query, scan: Scan) -> tuple[object, ...]:
    """What the fingerprint of a plan is made of; ``query`` has its range in instants."""
    principal, policies = scan.principal, scan.policies
    visible = (principal.name, principal.tenant, dict(principal.attributes)) if policies else ()
    return query, scan.dataset.version, [policy.name for policy in policies], visible


def _without_lead(resolved: ResolvedTime) -> ResolvedTime:
    """The range that was asked for, with the grid that holds the lead-in of rolling windows as well."""
    if resolved.lead == 0 or resolved.grid is None or resolved.bounds is None:
        return resolved
    bounds = AbsoluteRange(resolved.grid.starts[resolved.lead], resolved.bounds.end)
    return replace(resolved, bounds=bounds)
