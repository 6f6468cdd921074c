"""Takes a seat for the group, and gives it back whatever happens.

Waiting is bounded by the deadline, and everything that waits here holds nothing else: no connection, no worker. What is
reported when the seat is given back teaches the predictions: only work that ran to its end is a sample.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing

from broker.domain.answer import Answer, AnswerStatus
from broker.domain.change import Change
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.pool import PoolName
from broker.domain.request import CallContext, ExploreEvent
from broker.pipeline.execute import pool_of
from broker.pipeline.stage import Group, Handler, Outcome, Stage, StreamHandler, StreamStage
from broker.policy.admission.values import AdmissionRequest, Quantiles
from broker.policy.admission.values import Outcome as SeatOutcome
from broker.runtime.admission import Admission
from broker.runtime.permits import Permit

Seats = Callable[[CallContext], AbstractAsyncContextManager[object]]
"""A seat for a short question to the database that is not the caller's own: an estimate, the reading of a statement."""
_WITH_WAIT = Change(AnswerStatus, "queue_duration", "pool", "limiting_factor")
CUT_SHORT = frozenset({ErrorReason.DEADLINE_EXCEEDED, ErrorReason.CANCELLED})


def admission_request(group: Group, number: int) -> AdmissionRequest:
    """The group as one request: its questions run one after the other on one connection, so their times add up."""
    context = group.context
    p10 = p50 = p90 = 0.0
    seats = memory = 0
    for question in group.questions:
        classified, predicted = question.classified, question.classified.quantiles
        p10, p50, p90 = p10 + predicted.p10, p50 + predicted.p50, p90 + predicted.p90
        seats, memory = max(seats, classified.seats), max(memory, classified.memory)
    return AdmissionRequest(
        id=f"{context.request_id}/{number}",
        tenant=context.principal.tenant,
        pool=pool_of(group),
        deadline_at=context.deadline.at,
        criticality=context.principal.criticality,
        predicted=Quantiles(p10, p50, p90),
        seats=seats,
        memory=memory,
        attempt=context.attempt,
        load_group=group.load_group,
    )


def seat_outcome(outcomes: Sequence[Outcome]) -> SeatOutcome:
    """A sample when every question was answered; cut short when a deadline ended one; otherwise none."""
    errors = [o for o in outcomes if isinstance(o, BrokerError)]
    if not errors:
        return SeatOutcome.SUCCESS
    return SeatOutcome.DROPPED if any(e.reason in CUT_SHORT for e in errors) else SeatOutcome.IGNORED


def admitted(admission: Admission, ids: Iterator[int]) -> Stage:
    """Runs the rest with a seat; refusals are errors of the whole group. ``ids`` tell equal request ids apart."""

    def stage(inner: Handler) -> Handler:
        async def handle(group: Group) -> Sequence[Outcome]:
            async with admission.permit(admission_request(group, next(ids))) as permit:
                outcomes = await inner(group)
                permit.close(seat_outcome(outcomes))
            return [
                Answer(o.table, waited(o.status, permit)) if isinstance(o, Answer) else o for o in outcomes
            ]

        return handle

    return stage


def admitted_stream(admission: Admission, ids: Iterator[int]) -> StreamStage:
    """The same for a stream, whose seat is held until its last row has left the database."""

    def stage(inner: StreamHandler) -> StreamHandler:
        async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
            request = admission_request(group, next(ids))
            async with admission.permit(request) as permit, aclosing(inner(group)) as events:
                async for event in events:
                    if isinstance(event, AnswerStatus):
                        permit.close(SeatOutcome.SUCCESS)
                        yield waited(event, permit)
                    else:
                        yield event

        return handle

    return stage


def admin_seats(admission: Admission, ids: Iterator[int]) -> Seats:
    """Seats of the pool of administration, so that such questions are bounded too, and leave health checks room."""

    def seat(context: CallContext) -> AbstractAsyncContextManager[object]:
        request = AdmissionRequest(
            id=f"{context.request_id}/{next(ids)}",
            tenant=context.principal.tenant,
            pool=PoolName.ADMIN,
            deadline_at=context.deadline.at,
            criticality=context.principal.criticality,
            attempt=context.attempt,
        )
        return admission.permit(request)

    return seat


def waited(status: AnswerStatus, permit: Permit) -> AnswerStatus:
    """The status with what admission adds to it."""
    told = (permit.wait, str(permit.pool), f"pool:{permit.pool}" if permit.wait > 0 else "")
    known = (status.queue_duration, status.pool, status.limiting_factor)
    return status if told == known else _WITH_WAIT(status, *told)
