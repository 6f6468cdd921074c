"""A sample that is kept: which columns of a dataset it holds, and how a plan is read from it."""

from __future__ import annotations

import struct

from broker.domain.measures import ADDITIVE, State, order_keys, states
from broker.domain.model import Dataset, Dimension, Measure, MeasureKind
from broker.domain.plan import Finish, HeldBlock, Leaf, Output, Plan, key_name, state_name
from broker.domain.query import AllOf, Filter, conditions
from broker.domain.rollup import Span, micros
from broker.domain.values import Column, ColumnRole, DataType, ResultFormat
from broker.policy.fanout import fan_out_violation
from broker.policy.rollups.asked import policy_conditions

BLOCK = "#block"
"""The column with the number of a row's block."""
_KINDS = ADDITIVE | {MeasureKind.AVG}


def kept_measures(dataset: Dataset) -> tuple[Measure, ...]:
    """The measures whose states a sample holds."""
    return tuple(
        measure
        for measure in dataset.measures.values()
        if measure.kind in _KINDS and fan_out_violation(dataset, (), (measure.name,)) is None
    )


def kept_dimensions(dataset: Dataset) -> tuple[Dimension, ...]:
    """The dimensions that a sample holds: those that repeat no row of the table."""
    names = [measure.name for measure in kept_measures(dataset)]
    return tuple(
        dimension
        for dimension in dataset.dimensions.values()
        if fan_out_violation(dataset, (dimension.name,), names) is None
    )


def kept_leaves(dataset: Dataset) -> tuple[Leaf, ...]:
    """The measures with their states."""
    return tuple(Leaf(m, states(m, order_keys(dataset))) for m in kept_measures(dataset))


def kept_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of a sample: dimensions, the block, states."""
    return (
        *(Column(d.name, d.type, ColumnRole.DIMENSION, d.scale) for d in kept_dimensions(dataset)),
        Column(BLOCK, DataType.INT64, ColumnRole.DIMENSION),
        *(
            Column(state_name(leaf.measure.name, s.name), s.type, ColumnRole.MEASURE, s.scale)
            for leaf in kept_leaves(dataset)
            for s in leaf.states
        ),
    )


def kept_finish(dataset: Dataset) -> Finish:
    """What encodes the rows of a sample as they are."""
    columns = kept_columns(dataset)
    keys = len(kept_dimensions(dataset)) + 1
    leaves = tuple(
        Leaf(Measure(c.name, MeasureKind.MAX, type=c.type, scale=c.scale), (State("v", c.type, c.scale),))
        for c in columns[keys:]
    )
    outputs = tuple(Output(column) for column in columns[keys:])
    return Finish(columns, columns[:keys], leaves, outputs, pushed_down=True)


def stored_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns as the database sends them: keys, then the values of :func:`kept_finish`."""
    columns = kept_columns(dataset)
    keys = len(kept_dimensions(dataset)) + 1
    return (
        *(Column(key_name(i), c.type, c.role, c.scale) for i, c in enumerate(columns[:keys])),
        *(Column(state_name(c.name, "v"), c.type, c.role, c.scale) for c in columns[keys:]),
    )


def read_from_kept(plan: Plan) -> HeldBlock | None:
    """How an estimable plan is read from a sample, whose bytes are still to come; None where it holds too little.

    The last key is the block. Row policies are applied where they are equalities of dimensions with values of the
    principal.
    """
    scan = plan.main
    own = policy_conditions(scan)
    if own is None:
        return None
    parts: list[Filter] = [*([scan.filter] if scan.filter is not None else []), *own]
    where = AllOf(tuple(parts)) if parts else None
    held = {dimension.name for dimension in kept_dimensions(scan.dataset)}
    needed = {d.name for d in scan.dimensions} | {c.member for _, c in conditions(where)}
    if scan.bounds is not None and scan.time is not None:
        needed.add(scan.time.name)
    measures = {measure.name for measure in kept_measures(scan.dataset)}
    if not needed <= held or not {m.name for m in scan.leaves} <= measures:
        return None
    names = [state_name(leaf.measure.name, s.name) for leaf in plan.finish.leaves for s in leaf.states]
    keys = [*(d.name for d in scan.dimensions), BLOCK]
    starts = [micros(start) for start in scan.grid.starts] if scan.grid is not None else []
    bounds = scan.bounds
    return HeldBlock(
        b"",
        ResultFormat.ARROW,
        kept_columns(scan.dataset),
        tuple((name, key_name(i)) for i, name in enumerate(keys)),
        tuple((name, name) for name in names),
        where,
        scan.time.name if scan.time is not None and bounds is not None else "",
        -(2**63),
        Span(micros(bounds.start), micros(bounds.end)) if bounds is not None else None,
        struct.pack(f"<{len(starts)}q", *starts),
    )
