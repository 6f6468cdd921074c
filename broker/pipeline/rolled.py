"""Reads a question through its route: what rollups hold of it from them, the rest from the tables, in one snapshot.

The cover is decided from what the snapshot itself says is covered, never from what was known before. Rollups that are
segments are read in worker processes, from local files; all others by SQL in the same snapshot. Both give partial
states like those of the tables, so that the finish does not know where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.domain.change import Change
from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.plan import (
    BUCKET,
    Block,
    Finish,
    Leaf,
    LocalFile,
    Scan,
    ScanResult,
    SegmentBlock,
    key_name,
    state_name,
)
from broker.domain.pool import PoolName
from broker.domain.rollup import Cover, Coverage, Piece, Rollup, Segment, Span, Storage
from broker.domain.values import Column, ColumnRole, DataType
from broker.pipeline.fetched import fetched, overlapping
from broker.pipeline.known_seals import Known, nobody_knows
from broker.pipeline.routes import Route, ScanRoute
from broker.pipeline.sealed import covers_of, gone, missing, refusal_of
from broker.pipeline.seen import Seen
from broker.pipeline.stage import Question
from broker.pipeline.status import Sources
from broker.policy.rollups.reasons import told
from broker.ports.rollups import SegmentMirror
from broker.ports.store import QueryStore, Snapshot

_PUSHED_DOWN = Change(Finish, "pushed_down")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read for a question: the states, how they are finished, and the covers; none when all was live."""

    results: tuple[ScanResult, ...]
    finish: Finish
    covers: tuple[Cover, ...] = ()
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    sealed: tuple[Span, ...] = ()

    def sources(self, as_of: datetime, lag: float | None = None) -> Sources:
        """Where it was read, in a snapshot of this instant."""
        return Sources(as_of, lag, self.covers, self.coverage, self.sealed)


class Rolled:
    """The reader. ``mirror`` is None where no rollup is stored as segments; ``known`` is what is known to be sealed."""

    def __init__(self, mirror: SegmentMirror | None, known: Known = nobody_knows) -> None:
        self._mirror, self._known = mirror, known

    async def read(
        self,
        snapshot: Snapshot,
        question: Question,
        seen: Seen,
        deadline: Deadline,
        *,
        streamed: bool = False,
    ) -> Reading:
        """The states of a question; with ``streamed`` not those that the tables alone hold, which are to be streamed.

        Raises:
            BrokerError: Those of a snapshot; POLICY_UNSATISFIABLE when a rollup is required and none can answer.
        """
        plan, route, policy = question.plan, question.route, question.policy
        dataset = plan.main.dataset
        known = self._known(dataset)
        if route is None or not route.rollups:
            sealed = gone(plan, policy, await seen.seals(dataset, known))
            return self.live(question, () if streamed else await snapshot.read(plan), sealed)
        coverage = await seen.coverage(route)
        seals = await seen.seals(dataset, known, coverage)
        while True:
            covers = covers_of(route, policy, coverage, seals)
            for cover in covers:
                if not cover.pieces:
                    lost = () if route.require else missing(plan, seals)
                    raise unanswerable(cover, refusal_of(policy, lost))
            sealed = gone(plan, policy, seals, covers)
            if not any(cover.rollups for cover in covers):
                results = () if streamed else await snapshot.read(plan)
                return Reading(results, plan.finish, covers, coverage, sealed)
            less = await fetched(self._mirror, route, covers, coverage, deadline)
            if not less:
                break
            coverage = {**coverage, **less}
        finish = _unfinished(plan.finish)
        scanned = [
            await self._scan(snapshot, scan, cover, coverage, finish)
            for scan, cover in zip(route.scans, covers, strict=True)
        ]
        return Reading(tuple(scanned), finish, covers, coverage, sealed)

    async def read_alone(
        self, store: QueryStore, pool: PoolName, question: Question, deadline: Deadline
    ) -> tuple[datetime, Reading] | None:
        """The states of a question that one statement can give, and when they were read; None when it takes more."""
        plan, route = question.plan, question.route
        known = self._known(plan.main.dataset)
        if known is None:
            return None
        if route is None or not route.rolled:
            sealed = gone(plan, question.policy, known)
            alone = await store.read_alone(pool, plan, deadline)
            return None if alone is None else (alone.as_of, self.live(question, alone.results, sealed))
        piece = _only_piece(route)
        if piece is None:
            return None
        (scan,), rollup, finish = route.scans, route.rollup(piece.rollup), _unfinished(plan.finish)
        stored = scan.stored(rollup, (piece,))
        alone = await store.read_rolled_alone(pool, stored, finish, rollup, piece.spans, deadline, plan.shape)
        if alone is None:
            return None
        found = {**route.known, **{each.rollup: each for each in alone.coverage}}
        return alone.as_of, Reading(alone.results, finish, route.expected, found)

    def local(
        self, route: Route, covers: Sequence[Cover], coverage: Mapping[str, Coverage], finish: Finish
    ) -> tuple[ScanResult, ...]:
        """The states that rollups of segments hold of a question; nothing of what the tables would have to give.

        Raises:
            BrokerError: STORE_UNAVAILABLE when a segment is not here.
        """
        return tuple(
            ScanResult(
                tuple(
                    self._block(scan, route.rollup(piece.rollup), piece, coverage[piece.rollup], finish)
                    for piece in cover.rollups
                )
            )
            for scan, cover in zip(route.scans, covers, strict=True)
        )

    def forgot(self, error: BaseException | None) -> bool:
        """Whether a worker could not read a local file of a segment, which is fetched again behind this."""
        path = error.metadata.get("segment", "") if isinstance(error, BrokerError) else ""
        if path and self._mirror is not None:
            self._mirror.forget(path)
        return bool(path)

    @staticmethod
    def live(question: Question, results: tuple[ScanResult, ...], sealed: tuple[Span, ...]) -> Reading:
        """A reading of the tables alone, of a question without a route to rollups."""
        passed = question.route.passed_over if question.route is not None else ()
        return Reading(results, question.plan.finish, passed, sealed=sealed)

    async def _scan(
        self,
        snapshot: Snapshot,
        route: ScanRoute,
        cover: Cover,
        coverage: Mapping[str, Coverage],
        finish: Finish,
    ) -> ScanResult:
        grouped: list[Block] = []
        values: dict[str, tuple[Block, ...]] = {}
        for piece in cover.pieces:
            rollup = route.scan.dataset.rollups.get(piece.rollup)
            if rollup is None:
                found = await snapshot.read_scan(replace(route.scan, pieces=piece.spans), finish)
            elif rollup.storage is Storage.SEGMENTS:
                grouped.append(self._block(route, rollup, piece, coverage[rollup.name], finish))
                continue
            else:
                stored = route.stored(rollup, cover.pieces)
                found = await snapshot.read_rollup(stored, finish, rollup, piece.spans)
            grouped += found.grouped
            for measure, blocks in found.values.items():
                values[measure] = (*values.get(measure, ()), *blocks)
        return ScanResult(tuple(grouped), values)

    def _block(
        self, route: ScanRoute, rollup: Rollup, piece: Piece, coverage: Coverage, finish: Finish
    ) -> SegmentBlock:
        scan = route.scan
        leaves = leaves_of(scan, finish)
        stored = tuple(scan.dataset.dimensions[name] for name in rollup.dimensions)
        return SegmentBlock(
            files=self._files(rollup, overlapping(coverage.segments, piece.spans)),
            spans=piece.spans,
            stored=stored,
            keys=tuple(dimension.name for dimension in scan.dimensions),
            leaves=leaves,
            columns=columns_of(scan, leaves),
            starts=scan.grid.packed if scan.grid is not None else b"",
            filter=route.filters[rollup.name],
        )

    def _files(self, rollup: Rollup, segments: Sequence[Segment]) -> tuple[LocalFile, ...]:
        mirror = self._mirror
        assert mirror is not None, "a broker that has rollups of segments has a mirror"
        found: list[LocalFile] = []
        for segment in segments:
            files = mirror.local(rollup, segment)
            if files is None:  # evicted since: the mirror is too small for what is asked
                text = "A segment was evicted while it was needed. Raise rollups.mirror_size, or ask again."
                raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=0.1)
            found += files
        return tuple(found)


def _unfinished(finish: Finish) -> Finish:
    """The finish of states of which the source has finished none."""
    return _PUSHED_DOWN(finish, False) if finish.pushed_down else finish


def _only_piece(route: Route) -> Piece | None:
    """The one piece that is expected to answer all of the route's only scan, from a table that the broker keeps."""
    if len(route.expected) != 1 or len(route.expected[0].pieces) != 1:
        return None
    (piece,) = route.expected[0].pieces
    if not piece.rollup or route.rollup(piece.rollup).storage is not Storage.TABLE:
        return None
    return piece


def unanswerable(cover: Cover, sealed: BrokerError | None = None) -> BrokerError:
    """POLICY_UNSATISFIABLE with the rules by which every rollup was passed over, for a scan that nothing answers.

    ``sealed`` is why the tables cannot, where they could if their rows were still there.
    """
    why = told([cover.rejected])
    if sealed is not None:
        text = f"{sealed.message} Passed over: {why}."
        return BrokerError(sealed.reason, text, metadata={**sealed.metadata, "why_not": why})
    text = (
        f"No rollup can answer now ({why}), and the policy or the retention of the source leaves nothing else. "
        "Build or refresh the rollup, narrow the range, or allow live answers."
    )
    return BrokerError(ErrorReason.POLICY_UNSATISFIABLE, text, metadata={"why_not": why})


def leaves_of(scan: Scan, finish: Finish) -> tuple[Leaf, ...]:
    """The leaves of a scan with their states."""
    names = {measure.name for measure in scan.leaves}
    return tuple(leaf for leaf in finish.leaves if leaf.measure.name in names)


def columns_of(scan: Scan, leaves: Sequence[Leaf]) -> tuple[Column, ...]:
    """The columns of a scan's frame of states."""
    bucket = [Column(BUCKET, DataType.INT64, ColumnRole.TIME_BUCKET)] if scan.grid is not None else []
    keys = [
        Column(key_name(i), dimension.type, ColumnRole.DIMENSION, dimension.scale)
        for i, dimension in enumerate(scan.dimensions)
    ]
    states = [
        Column(state_name(leaf.measure.name, state.name), state.type, ColumnRole.MEASURE, state.scale)
        for leaf in leaves
        for state in leaf.states
    ]
    return (*bucket, *keys, *states)
