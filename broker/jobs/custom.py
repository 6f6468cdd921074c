"""Kinds of job that operators bring: a class in a module of their own, named in ``jobs.kinds``. docs/jobs.md has one.

A kind declares the type of its parameters and a coroutine that does one attempt. Everything else is taken care of here:
parameters are checked when the job is submitted, an attempt goes on from the checkpoint of the one before it, CPU work
runs in a child process that dies with the attempt, and the error that ends an attempt says whether another may help.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.job import Job, JobProgress, JobResult, ResultPart
from broker.domain.request import CallContext
from broker.domain.work import CustomWork, JobAsk
from broker.jobs.kind import JobContext
from broker.jobs.step import STEP, Failure, Say, StepError, Value
from broker.ports.checkpoints import Checkpoints
from broker.ports.results import Staging

P = TypeVar("P")

MAX_CHECKPOINT = 1 << 20
_LONGEST_STEP = 86_400.0


class PermanentError(Exception):
    """Another attempt would fail in the same way: the job ends. The text is for the submitter."""


class PassingError(Exception):
    """Another attempt may succeed, after ``retry_after`` seconds at least. The text is for the submitter."""

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class CustomKind(Protocol[P]):
    """What an operator writes.

    Errors that an attempt raises decide what follows: :class:`PermanentError` ends the job, :class:`PassingError` and
    everything that is not expected is tried again, up to the attempts allowed.
    """

    @property
    def parameters(self) -> type[Any]:
        """Type of the parameters: a dataclass, or a model of pydantic."""
        ...

    @property
    def grant(self) -> str:
        """Grant that a submitter needs; empty for none."""
        ...

    async def run(self, attempt: CustomAttempt[P]) -> JobResult | None:
        """Does one attempt. When it is cancelled it stops what it has started before it ends."""
        ...


class Elsewhere(Protocol):
    """Worker processes of a cluster."""

    async def compute(self, function: str, argument: object, seconds: float) -> Value | Failure | None:
        """What came of a step; None where no cluster can be reached, and nothing was done.

        Raises:
            BrokerError: WORKER_LOST, RESULT_TOO_LARGE, DEADLINE_EXCEEDED after so many seconds.
        """
        ...


class CustomAttempt(Generic[P]):
    """One attempt, as the kind sees it. ``checkpoint`` holds what the attempts before saved last; empty at first."""

    def __init__(
        self,
        context: JobContext,
        parameters: P,
        checkpoint: bytes,
        checkpoints: Checkpoints,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.parameters = parameters
        self.checkpoint = checkpoint
        self._context = context
        self._checkpoints = checkpoints
        self._elsewhere = elsewhere

    @property
    def job(self) -> Job:
        """The job. Its id and fence name this attempt for ever, for systems that know idempotency keys."""
        return self._context.job

    @property
    def cancelled(self) -> asyncio.Event:
        """Set when the attempt is to stop; the coroutine is cancelled as well, so that only threads look at it."""
        return self._context.cancelled

    def progress(
        self, phase: str, fraction: float | None = None, *, rows: int = 0, message: str = ""
    ) -> None:
        """Tells how far it is; never waits, and what comes faster than twice a second is merged."""
        self._context.report(JobProgress(phase, fraction, rows, message=message))

    async def save(self, checkpoint: bytes) -> None:
        """Keeps where another attempt may go on, at most 1 MiB.

        Raises:
            BrokerError: STORE_UNAVAILABLE; or WORKER_LOST when somebody else has the job, where the attempt ends.
        """
        if len(checkpoint) > MAX_CHECKPOINT:
            raise ValueError(f"a checkpoint has {len(checkpoint)} bytes; at most {MAX_CHECKPOINT} are kept")
        if not await self._checkpoints.save(self.job, checkpoint):
            raise BrokerError(ErrorReason.WORKER_LOST, "Another attempt has the job.")
        self.checkpoint = checkpoint

    async def compute(self, function: str, argument: object, *, anywhere: bool = False) -> Any:
        """What ``function`` (as ``module:name``) returns for the argument, computed in a child process.

        It is called with the argument and a function that reports progress. Argument and result are pickled. The child
        has a limit of memory, and is killed with everything it has started when the attempt ends.

        With ``anywhere`` it may be computed on a cluster, where one is configured and can be reached; its progress is
        not heard of from there, and the process that is killed may be one that has served other steps.

        Raises:
            ChildLostError: It died, which three times end the job, or aborted for want of memory, which ends it.
            BrokerError: The same on a cluster: WORKER_LOST, RESULT_TOO_LARGE.
            PermanentError, PassingError: As the function raised them.
        """
        if anywhere and self._elsewhere is not None:
            seconds = self.job.attempt_timeout or _LONGEST_STEP
            match await self._elsewhere.compute(function, argument, seconds):
                case Value(value):
                    return value
                case Failure(error, text):
                    raise error or StepError(text)
                case None:
                    pass  # nobody is there: it is computed here
        async with self._context.children.child(STEP, (function, argument)) as child:
            while True:
                match await child.receive():
                    case Say(phase, fraction, message):
                        self.progress(phase, fraction, message=message)
                    case Value(value):
                        return value
                    case Failure(error, text):
                        raise error or StepError(text)
                    case message:
                        raise TypeError(f"not a message of the child: {message!r}")

    @asynccontextmanager
    async def files(self) -> AsyncIterator[Files]:
        """A directory for the files of the result."""
        async with self._context.results.stage(self._context.prefix) as staging:
            yield Files(staging)


class Files:
    """Files of a result on their way."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._parts: list[ResultPart] = []

    @property
    def directory(self) -> Path:
        """Where to write them."""
        return Path(self._staging.directory)

    async def publish(self, name: str, content_type: str, row_count: int = 0) -> None:
        """Makes a finished file of the directory part of the result."""
        size, sha256 = await asyncio.to_thread(_measured, self.directory / name)
        key = await self._staging.publish(name)
        self._parts.append(ResultPart(len(self._parts), key, name, content_type, row_count, size, sha256))

    def result(self) -> JobResult:
        """The manifest of what was published."""
        parts = tuple(self._parts)
        return JobResult(
            parts, row_count=sum(p.row_count for p in parts), byte_count=sum(p.byte_count for p in parts)
        )


def _measured(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
        return file.tell(), sha256


@dataclass(frozen=True, slots=True)
class Registered:
    """A kind under its name. ``parse`` makes its parameters from JSON values, or raises INVALID_REQUEST."""

    name: str
    kind: CustomKind[Any]
    parse: Callable[[Mapping[str, object]], object]

    async def check(self, context: CallContext, ask: JobAsk) -> None:
        """What a submission is checked by."""
        grant = self.kind.grant
        if grant and not context.principal.has(grant):
            text = f"The grant {grant!r} is needed for jobs of this kind. Ask the operator."
            raise BrokerError(ErrorReason.PERMISSION_DENIED, text, metadata={"grant": grant})
        assert isinstance(ask.work, CustomWork)
        self.parse(ask.work.parameters)


@dataclass(frozen=True, slots=True)
class RunningKind:
    """Attempts of a registered kind. ``decode`` reads the stored request."""

    registered: Registered
    checkpoints: Checkpoints
    decode: Callable[[bytes], JobAsk]
    elsewhere: Elsewhere | None = None

    @property
    def name(self) -> str:
        """Name of the kind, as in ``Job.kind``."""
        return f"custom:{self.registered.name}"

    async def run(self, context: JobContext) -> JobResult:
        """One attempt."""
        ask = self.decode(context.job.spec)
        assert isinstance(ask.work, CustomWork)
        parameters = self.registered.parse(ask.work.parameters)
        checkpoint = await self.checkpoints.load(context.job)
        attempt = CustomAttempt(context, parameters, checkpoint, self.checkpoints, self.elsewhere)
        try:
            result = await self.registered.kind.run(attempt)
        except PermanentError as error:
            text = f"The job cannot be done as it was asked for: {error}"
            raise BrokerError(ErrorReason.INVALID_REQUEST, text) from error
        except PassingError as error:
            raise BrokerError(
                ErrorReason.STORE_UNAVAILABLE, str(error), retry_after=error.retry_after
            ) from error
        return replace(result) if result is not None else JobResult()
