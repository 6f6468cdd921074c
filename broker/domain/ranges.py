"""Ranges of keys: the pieces of an export that several workers write, all out of one snapshot."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime

from broker.domain.job import ResultPart

RANGE_KIND = "export_range"
"""The kind under which a worker runs a range of somebody else's export."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The rows of an answer whose leading key lies in ``[low, high)``.

    Instants count as microseconds and dates as days since 1970; None is no end on that side. Rows without a key belong
    to the one range that has ``nulls``.
    """

    low: int | None = None
    high: int | None = None
    nulls: bool = False


@dataclass(frozen=True, slots=True)
class RangeWork:
    """What a worker has to know of a range: the request of the job, the snapshot, and whose answer it is a part of.

    ``snapshot`` is as :meth:`broker.ports.store.Snapshot.share` gave it, ``fingerprint`` that of the whole plan: a
    worker that reads the same request otherwise, since its model is another one, must not take part.
    """

    spec: bytes
    snapshot: str
    fingerprint: str
    within: KeyRange

    def encode(self) -> bytes:
        """As the request of a job of its own."""
        within = [self.within.low, self.within.high, self.within.nulls]
        spec = base64.b64encode(self.spec).decode()
        return json.dumps([spec, self.snapshot, self.fingerprint, within]).encode()

    @staticmethod
    def decode(data: bytes) -> RangeWork:
        """What ``encode`` gave."""
        spec, snapshot, fingerprint, within = json.loads(data)
        return RangeWork(base64.b64decode(spec), snapshot, fingerprint, KeyRange(*within))


@dataclass(frozen=True, slots=True)
class RangeClaim:
    """A range that the attempt itself has taken; ``fence`` grows with every claim of the range, whoever makes it."""

    index: int
    fence: int
    within: KeyRange


@dataclass(frozen=True, slots=True)
class RangeOffer:
    """A range that an attempt opens.

    A snapshot that gives one of the ``proofs`` has the same rows of it as that of the attempt. ``parts`` are the files
    of an attempt that died, copied to where this one keeps its own; None where the range is to be written.
    """

    within: KeyRange
    proofs: tuple[str, ...] = ()
    parts: tuple[ResultPart, ...] | None = None


@dataclass(frozen=True, slots=True)
class RangeState:
    """How far a range is. ``parts`` is None until it is done; ``busy`` while somebody has it.

    ``inherited`` is the instant of the snapshot from which an attempt that died has read it; None when it was this one.
    """

    index: int
    fence: int
    within: KeyRange
    busy: bool
    row_count: int
    byte_count: int
    parts: tuple[ResultPart, ...] | None = None
    inherited: datetime | None = None


@dataclass(frozen=True, slots=True)
class Legacy:
    """What the attempt under the fence ``job_fence``, which died, has left: its ranges, in the order of the answer."""

    job_fence: int
    ranges: tuple[RangeOffer, ...]

    @property
    def useful(self) -> bool:
        """Whether there is anything to take over."""
        return any(each.parts is not None and each.proofs for each in self.ranges)


NOTHING = Legacy(0, ())


def range_id(job_id: str, fence: int, index: int) -> str:
    """The id that a range has as a job: below that of its job and attempt, as its files are below theirs."""
    return f"{job_id}/{fence}/{index}"


def range_of(job_id: str) -> tuple[str, int, int] | None:
    """Job, fence of the attempt and index of a range's id; None for the id of a job."""
    parent, *rest = job_id.split("/")
    return (parent, int(rest[0]), int(rest[1])) if rest else None
