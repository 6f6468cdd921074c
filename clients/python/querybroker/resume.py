"""Streams that go on after a break: watches from the last revision, results from the last byte."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from querybroker.errors import ChecksumError, QueryBrokerError
from querybroker.requests import FINAL
from querybroker.v1 import job_pb2, job_service_pb2

ATTEMPTS = 5
MAX_DELAY = 5.0
"""Seconds; the longest pause of the client's own choice."""
MAX_HINT = 60.0
"""Seconds; who is told to come back later than that is told the error instead."""


class Patience:
    """Decides whether to go on after an error. ``clock`` is monotonic; ``seconds`` bounds the whole stream.

    A server's hint is never shortened, and is exceeded by up to a fifth, so that those who were refused together do
    not come back together; without a hint the pause is drawn between 0 and a ceiling that doubles.
    """

    def __init__(
        self, clock: Callable[[], float], seconds: float | None, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock, self._chance = clock, chance
        self._end = None if seconds is None else clock() + seconds
        self._failures = 0

    def left(self) -> float | None:
        """Seconds that are left, None for no limit."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    def progressed(self) -> None:
        """Something arrived; earlier failures are forgotten."""
        self._failures = 0

    def delay(self, error: QueryBrokerError) -> float:
        """Seconds to wait before going on.

        Raises:
            QueryBrokerError: The error itself, when going on makes no sense.
        """
        left = self.left()
        # Without a limit of the caller's own, a deadline is the server's cap on long streams.
        capped = error.code == "DEADLINE_EXCEEDED" and left != 0
        self._failures += 1
        if not (error.retryable or capped) or self._failures > ATTEMPTS:
            raise error
        if error.retry_after is None:
            wait = self._chance() * min(MAX_DELAY, 0.1 * 2.0**self._failures)
        else:
            wait = error.retry_after * (1.0 + 0.2 * self._chance())
        if wait > MAX_HINT or (left is not None and wait >= left):
            raise error
        return wait


class Watch:
    """A job being watched."""

    def __init__(self, name: str, after_revision: int) -> None:
        self.name = name
        self.revision = after_revision
        self.done = False

    def request(self) -> job_service_pb2.WatchJobRequest:
        """Goes on after the last state that was seen."""
        return job_service_pb2.WatchJobRequest(name=self.name, after_revision=self.revision)

    def accept(self, event: job_service_pb2.WatchJobResponse) -> job_pb2.Job | None:
        """The job when it has changed."""
        if event.keep_alive:
            return None
        self.revision = event.job.revision
        self.done = event.job.state in FINAL
        return event.job

    def broken(self) -> QueryBrokerError:
        """The error of a watch that ended before the job did."""
        return QueryBrokerError("UNAVAILABLE", f"the watch of {self.name} ended before the job did")


class Download:
    """A file of a result being read. Its checksum is verified when it is read from the beginning."""

    def __init__(self, name: str, part_index: int, offset: int) -> None:
        self.name = name
        self.part: job_pb2.ResultPart | None = None
        self.offset = offset
        self.done = False
        self._part_index = part_index
        self._digest = hashlib.sha256() if offset == 0 else None

    def request(self) -> job_service_pb2.ReadJobResultRequest:
        """Goes on after the last byte that was read."""
        return job_service_pb2.ReadJobResultRequest(
            name=self.name, part_index=self._part_index, offset=self.offset
        )

    def accept(self, piece: job_service_pb2.ReadJobResultResponse) -> bytes:
        """The bytes of a piece.

        Raises:
            QueryBrokerError: A piece is missing.
        """
        if piece.HasField("part"):
            self.part = piece.part
        if piece.offset != self.offset:
            text = f"bytes {self.offset} to {piece.offset} of {self.name} are missing; read again"
            raise QueryBrokerError("DATA_LOSS", text)
        self.offset += len(piece.data)
        if self._digest is not None:
            self._digest.update(piece.data)
        return piece.data

    def finish(self) -> QueryBrokerError:
        """Decides, when the stream has ended, whether all is there; gives the error of one that broke off.

        Raises:
            ChecksumError: All bytes are there, and they are not the ones that were written.
        """
        self.done = self.part is not None and self.offset >= self.part.byte_count
        if self.done and self.part is not None and self._digest is not None:
            found = self._digest.digest()
            if found != self.part.sha256:
                raise ChecksumError(self.part.file_name or self.name, self.part.sha256, found)
        return QueryBrokerError("UNAVAILABLE", f"the stream of {self.name} broke off")
