"""Requests of JobService, AdminService and Operations that are more than a name."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.duration_pb2 import Duration

from broker.domain.errors import Violation, invalid
from broker.domain.job import JobState
from broker.domain.work import JobListing
from broker.transport.decode_list import Page, job_name, page
from broker.transport.decode_values import Found, at_least, required_choice, seconds, short_text
from broker.transport.enums import JOB_STATE
from querybroker.v1 import job_service_pb2

MIN_STATE_INTERVAL = 0.1
MAX_STATE_INTERVAL = 3_600.0
DEFAULT_STATE_INTERVAL = 1.0
MAX_GRACE = 86_400.0


def one_job(name: str, **numbers: int) -> tuple[str, str]:
    """Tenant and id of a job, beside non-negative numbers of the request, named as in the contract.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    found: Found = []
    named = job_name(name, "name", found)
    for field, number in numbers.items():
        at_least(number, 0, field, found)
    if found:
        raise invalid(found)
    return named


def decode_listing(request: job_service_pb2.ListJobsRequest) -> tuple[JobListing, Page]:
    """Which jobs to list, and which page of them.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    found: Found = []
    asked = page(request, request.page_size, request.page_token, found, positions=2)
    states = [
        required_choice(JOB_STATE, number, f"states[{i}]", found, JobState.QUEUED)
        for i, number in enumerate(request.states[:16])
    ]
    listing = JobListing(
        states=tuple(dict.fromkeys(states)),
        kind=short_text(request.kind, "kind", found),
        all_owners=request.all_owners,
        dead_lettered=request.dead_lettered,
        before=before(asked, found),
    )
    if found:
        raise invalid(found)
    return listing, asked


def before(asked: Page, found: Found) -> tuple[datetime, str] | None:
    """The last job of the page before."""
    if not asked.after:
        return None
    try:
        return datetime.fromisoformat(asked.after[0]), asked.after[1]
    except ValueError:
        found.append(Violation("page_token", "is not a next_page_token of this method", "INVALID_TOKEN"))
        return None


def state_interval(given: bool, message: Duration) -> float:
    """Seconds between two events of WatchState.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    if not given:
        return DEFAULT_STATE_INTERVAL
    found: Found = []
    value = seconds(message, "interval", found, MIN_STATE_INTERVAL)
    if found:
        raise invalid(found)
    return min(value, MAX_STATE_INTERVAL)


def grace(given: bool, message: Duration) -> float | None:
    """Seconds that running work is given, None for the server's default.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    if not given:
        return None
    found: Found = []
    value = seconds(message, "grace", found)
    if value > MAX_GRACE:
        found.append(Violation("grace", f"must be at most {MAX_GRACE:g} s", "OUT_OF_RANGE"))
    if found:
        raise invalid(found)
    return value
