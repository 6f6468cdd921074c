"""Reasons, codes and their page agree; statuses stay small."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import BrokerError, ErrorReason, Violation
from broker.transport.status import MAX_STATUS, MOST_KNOWN, RULES, Retry, Statuses, clip
from querybroker.v1 import error_reason_pb2

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "errors.md").read_text()
WORDS = {Retry.NO: "no", Retry.BACKOFF: "after the hint", Retry.HINTED: "later, by hand"}


def test_the_contract_the_code_and_the_page_list_the_same_reasons() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \| ([a-z, ]+) \|", PAGE, re.MULTILINE)
    contract = [n.removeprefix("ERROR_REASON_") for n, v in error_reason_pb2.ErrorReason.items() if v]
    assert [reason.value for reason in ErrorReason] == contract
    assert rows == [(r.value, RULES[r].code.name, WORDS[RULES[r].retry]) for r in ErrorReason]


def test_the_contract_names_the_codes_that_the_rules_use() -> None:
    proto = (ROOT / "protos" / "querybroker" / "v1" / "error_reason.proto").read_text()
    comments = dict(re.findall(r"// ([^\n]+)\n  ERROR_REASON_([A-Z_]+) =", proto))
    told = {reason: text for text, reason in comments.items()}
    for reason in ErrorReason:
        text = told[reason.value]
        assert RULES[reason].code.name in text or "Only in jobs" in text, reason


def test_every_code_of_a_violation_is_on_the_page() -> None:
    last_argument = re.compile(r', "([A-Z_]{4,})"\)\)?$', re.MULTILINE)
    sources = [path.read_text() for path in (ROOT / "broker" / "transport").rglob("*.py")]
    found = {code for source in sources for code in last_argument.findall(source)}
    assert len(found) > 15
    assert [code for code in sorted(found) if f"`{code}`" not in PAGE] == []


texts = st.text(max_size=2_000)
violations = st.lists(st.builds(Violation, texts, texts, st.just("INVALID")), max_size=60)


@given(st.sampled_from(ErrorReason), texts, violations, st.dictionaries(texts, texts, max_size=40), texts)
def test_a_status_stays_within_its_size(
    reason: ErrorReason, text: str, wrong: list[Violation], metadata: dict[str, str], resource: str
) -> None:
    error = BrokerError(reason, text, retry_after=1.0, metadata=metadata, violations=wrong, resource=resource)
    status = Statuses(lambda: 0.0).status(error, "r" * 36)
    first_violation = 700  # one is always shown, however little room is left
    assert status.ByteSize() <= MAX_STATUS + first_violation
    kinds = [detail.TypeName() for detail in status.details]
    assert len(kinds) == len(set(kinds))
    assert kinds[0] == "google.rpc.ErrorInfo"


def test_hints_are_spread_by_a_fifth() -> None:
    error = BrokerError(ErrorReason.OVERLOADED, "Full.", retry_after=10.0)
    low = Statuses(lambda: 0.0).refusal(error, "")
    high = Statuses(lambda: 0.999_999).refusal(error, "")
    assert dict(low.trailers)["grpc-retry-pushback-ms"] == "8000"
    assert dict(high.trailers)["grpc-retry-pushback-ms"] == "12000"


def test_a_retry_at_once_is_not_told_as_zero() -> None:
    error = BrokerError(ErrorReason.DRAINING, "Stopping.", retry_after=0.0)
    assert dict(Statuses(lambda: 0.5).refusal(error, "").trailers)["grpc-retry-pushback-ms"] == "1"


@given(texts, st.integers(3, 300))
def test_clipped_text_is_text_of_at_most_the_size(text: str, size: int) -> None:
    clipped = clip(text, size)
    assert len(clipped.encode()) <= size
    assert clipped == text or clipped.endswith("…")


def test_an_error_that_is_told_again_says_the_same_and_what_is_the_callers_own() -> None:
    draws = iter([0.0, 0.0, 1.0])
    statuses = Statuses(random=lambda: next(draws))
    error = BrokerError(
        ErrorReason.TENANT_QUOTA, "Wait.", retry_after=2.0, metadata={"tenant": "a", "quota_value": "5"}
    )
    fresh, first, second = (
        statuses.refusal(error, "1", 9.0), statuses.again(error, "1", 9.0), statuses.again(error, "2", 9.0)
    )  # fmt: skip
    assert (first.reason, first.code, first.message) == (fresh.reason, fresh.code, fresh.message)
    assert first.trailers[1:] == fresh.trailers[1:]
    assert parts(first.trailers) == parts(fresh.trailers)
    changed = {
        name: text for name, text in parts(second.trailers).items() if text != parts(fresh.trailers)[name]
    }
    assert set(changed) == {"google.rpc.RetryInfo", "google.rpc.RequestInfo"}
    assert "seconds: 2" in changed["google.rpc.RetryInfo"]
    assert '"2"' in changed["google.rpc.RequestInfo"]


def test_so_many_errors_are_remembered_and_no_more() -> None:
    statuses = Statuses(random=lambda: 0.5)
    for number in range(3 * MOST_KNOWN):
        error = BrokerError(ErrorReason.OVERLOADED, f"number {number}")
        assert statuses.again(error, "").message == f"number {number}"
    assert len(statuses._known) <= MOST_KNOWN


def parts(trailers: Sequence[tuple[str, str | bytes]]) -> dict[str, str]:
    """The details of a status by type, as text."""
    ((name, value), *_) = trailers
    assert name == "grpc-status-details-bin"
    assert isinstance(value, bytes)
    found = Status.FromString(value)
    assert found.code
    known = {kind.DESCRIPTOR.full_name: kind for kind in DETAILS}
    made = {}
    for detail in found.details:
        message = known[detail.TypeName()]()
        assert detail.Unpack(message)
        made[detail.TypeName()] = str(message)
    return made


DETAILS = (details.ErrorInfo, details.RetryInfo, details.RequestInfo, details.QuotaFailure, details.Help)
