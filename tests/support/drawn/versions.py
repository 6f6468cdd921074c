"""What questions are answered from the tables of each version of a database, and what is wrong with other answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from querybroker import Client, QueryBrokerError, Result, policy
from querybroker.v1 import answer_pb2 as a
from querybroker.v1 import policy_pb2 as p
from querybroker.v1 import query_pb2 as q
from querybroker.v1 import query_service_pb2 as s
from tests.oracle.model import OracleModel
from tests.support.drawn.asking import TOGETHER, difference

CACHED = (a.ANSWER_KIND_CACHE_FRESH, a.ANSWER_KIND_CACHE_STALE)
CLOCKS = 0.002
"""Seconds by which instants of two processes, and those that were rounded, may be apart."""
Answer = Result | QueryBrokerError


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and what compares its answers."""

    query: q.Query
    model: OracleModel


@dataclass(slots=True)
class Version:
    """What the tables held after a change that was committed between two instants; answers by caller and question."""

    began: float
    ended: float
    answers: dict[tuple[str, int], Answer] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given to a caller under a policy, and when it was asked for."""

    caller: str
    question: int
    policy: p.AnswerPolicy
    answer: Answer
    sent: float


@dataclass(slots=True)
class Versions:
    """Versions of a database, the first one first, and the questions that are asked of each."""

    questions: Sequence[Question]
    callers: Mapping[str, Client]
    every: list[Version] = field(default_factory=list)

    async def add(self, began: float) -> None:
        """A change that began then has been made."""
        version = Version(began, time.time())
        live = policy(cache="bypass", rollup="forbid")
        for caller, client in self.callers.items():
            for at in range(0, len(self.questions), TOGETHER):
                some = {str(at + i): each.query for i, each in enumerate(self.questions[at : at + TOGETHER])}
                panels = {name: s.Panel(query=query, policy=live) for name, query in some.items()}
                answered = await client.dashboard(panels, timeout=60)
                for name in some:
                    version.answers[caller, int(name)] = answered.errors.get(name) or answered[name]
        self.every.append(version)

    async def ask(self, caller: str, question: int, terms: p.AnswerPolicy) -> Given:
        """Asks one question."""
        sent = time.time()
        found: Answer
        try:
            found = await self.callers[caller].ask(self.questions[question].query, policy=terms, timeout=60)
        except QueryBrokerError as error:
            found = error
        return Given(caller, question, terms, found, sent)

    def wrong(self, given: Given) -> str:
        """What is wrong with an answer, once the version that it was given at has been added."""
        if isinstance(given.answer, QueryBrokerError):
            only = given.policy.cache_mode == p.CACHE_MODE_ONLY
            expected = [each.answers[given.caller, given.question] for each in self.every[-2:]]
            reasons = {"POLICY_UNSATISFIABLE"} if only else {getattr(each, "reason", "") for each in expected}
            return "" if given.answer.reason in reasons else f"refused: {given.answer}"
        return _of_status(given, given.answer.status) or self._of_table(given, given.answer)

    def _of_table(self, given: Given, answer: Result) -> str:
        """A snapshot is taken after the instant that it is told by: it may be of the version that came next."""
        as_of = _instant(answer.status.as_of)
        after = [i for i, version in enumerate(self.every) if version.began > as_of]
        last = min(after, default=len(self.every) - 1)
        first = max(i for i, version in enumerate(self.every[: last + 1]) if i == 0 or version.ended <= as_of)
        found = ""
        for version in self.every[first : last + 1]:
            expected = version.answers[given.caller, given.question]
            if isinstance(expected, QueryBrokerError):
                return ""  # what was answered before may be cached; what is refused is not compared
            found = _apart(self.questions[given.question].model, answer, expected)
            if not found:
                return ""
        return f"of version {last} of {len(self.every) - 1}: {found}"


def _of_status(given: Given, status: a.AnswerStatus) -> str:
    """What is wrong with what an answer says of itself."""
    terms, cached = given.policy, status.kind in CACHED
    as_of, told = _instant(status.as_of), _seconds(status.staleness)
    if (
        told < given.sent - as_of - CLOCKS
    ):  # more is told where the broker paused between two looks at its clocks
        return f"{told} s old, asked {given.sent - as_of} s after its time"
    if terms.HasField("max_staleness") and told > _seconds(terms.max_staleness) and cached:
        return f"{told} s old"
    anew = terms.cache_mode in (p.CACHE_MODE_BYPASS, p.CACHE_MODE_REVALIDATE)
    if (anew or terms.consistency == p.CONSISTENCY_SNAPSHOT) and (cached or as_of < given.sent - CLOCKS):
        return "not read anew"
    if terms.cache_mode == p.CACHE_MODE_ONLY and not cached:
        return "not cached"
    if status.guarantee == a.FRESHNESS_GUARANTEE_BOUNDED_STALENESS and told > _seconds(
        status.guarantee_bound
    ):
        return f"{told} s old, and at most {status.guarantee_bound} were promised"
    if any((part.source == a.PART_SOURCE_CACHE) != cached for part in status.parts):
        return f"of kind {status.kind}, and its parts are {status.parts}"
    if status.kind == a.ANSWER_KIND_CACHE_FRESH and (status.degraded or status.reasons):
        return f"fresh, and yet {status.reasons}"
    if terms.rollup_mode == p.ROLLUP_MODE_FORBID and any(
        "rollup:" in each.source_name for each in status.parts
    ):
        return "from a rollup"
    return ""


def _apart(model: OracleModel, one: Result, other: Result) -> str:
    try:
        return difference(model, one, other, together=False)
    except OverflowError:  # dates that Python cannot hold
        return "" if one.columns == other.columns else f"{one.columns} and {other.columns}"


def _instant(at: Timestamp) -> float:
    return float(at.seconds + at.nanos / 1e9)


def _seconds(given: Duration) -> float:
    return float(given.seconds + given.nanos / 1e9)
