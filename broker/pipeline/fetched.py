"""Has the segments of a cover fetched, and tells what of the rollups is left where they cannot be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.rollup import Cover, Coverage, Segment, Span, Storage
from broker.pipeline.routes import Route
from broker.ports.rollups import SegmentMirror


async def fetched(
    mirror: SegmentMirror | None,
    route: Route,
    covers: Sequence[Cover],
    coverage: Mapping[str, Coverage],
    deadline: Deadline,
) -> dict[str, Coverage]:
    """Fetches the segments of the covers that are not here yet.

    Returns the coverage, without what is not here, of rollups whose segments cannot be had: the tables have the same
    rows. Of sealed segments they do not, so those must be had.

    Raises:
        BrokerError: DEADLINE_EXCEEDED; why a sealed segment cannot be had.
    """
    less: dict[str, Coverage] = {}
    for name, segments in needed(route, covers, coverage).items():
        assert mirror is not None, "a broker that has rollups of segments has a mirror"
        rollup = route.rollup(name)
        missing = [s for s in segments if mirror.local(rollup, s) is None]
        if not missing:
            continue
        try:
            await mirror.ensure(rollup, missing, deadline)
        except (BrokerError, LookupError) as error:
            if isinstance(error, BrokerError) and error.reason is ErrorReason.DEADLINE_EXCEEDED:
                raise
            lost = {s.id for s in missing if not s.sealed and mirror.local(rollup, s) is None}
            if not lost:
                raise _told(error) from error
            own = coverage[name]
            less[name] = replace(own, segments=tuple(s for s in own.segments if s.id not in lost))
    return less


def needed(
    route: Route, covers: Sequence[Cover], coverage: Mapping[str, Coverage]
) -> dict[str, tuple[Segment, ...]]:
    """The segments that the covers read, by rollup."""
    found: dict[str, tuple[Segment, ...]] = {}
    for cover in covers:
        for piece in cover.rollups:
            if route.rollup(piece.rollup).storage is Storage.SEGMENTS:
                own = overlapping(coverage[piece.rollup].segments, piece.spans)
                found[piece.rollup] = tuple({s.id: s for s in (*found.get(piece.rollup, ()), *own)}.values())
    return found


def overlapping(segments: Sequence[Segment], spans: Sequence[Span]) -> tuple[Segment, ...]:
    """The segments that hold a part of the spans; both are ascending and disjoint."""
    found: list[Segment] = []
    waiting = iter(spans)
    span = next(waiting, None)
    for segment in segments:
        while span is not None and span.hi <= segment.span.lo:
            span = next(waiting, None)
        if span is None:
            break
        if span.lo < segment.span.hi:
            found.append(segment)
    return tuple(found)


def _told(error: BrokerError | LookupError) -> BrokerError:
    if isinstance(error, BrokerError):
        return error
    text = "A version of a rollup was replaced while it was being fetched. Ask again."
    return BrokerError(ErrorReason.STORE_UNAVAILABLE, text, retry_after=0.1)
