"""Lets pass what a source may answer: the tables, or rollups where the question has a route to them.

The rungs that were considered and why they were passed over go into the answer's status. A policy that no source can
satisfy is refused before anything is admitted; one that the sources of the answer turn out not to satisfy, afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from broker.domain.answer import Answer, AnswerKind, LadderStep, Rung, Verdict
from broker.domain.change import Change
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.measures import HLL_RELATIVE_ERROR, KLL_RANK_ERROR
from broker.domain.model import Dataset, MeasureKind
from broker.domain.plan import Plan
from broker.domain.request import ExploreEvent
from broker.domain.terms import AnswerPolicy, CacheMode, RollupMode
from broker.pipeline.routes import Route
from broker.pipeline.stage import Group, Handler, Outcome, Question, StreamHandler
from broker.policy.rollups.reasons import told

_BOUNDS = {MeasureKind.APPROX_DISTINCT: HLL_RELATIVE_ERROR, MeasureKind.APPROX_PERCENTILE: KLL_RANK_ERROR}

_WITH_LADDER = Change(Question, "ladder")
_NO_CACHE = (LadderStep(Rung.CACHE_FRESH, Verdict.FORBIDDEN),)
_NOT_CACHED = (LadderStep(Rung.CACHE_FRESH, Verdict.NOT_APPLICABLE),)
_NO_ROLLUP = LadderStep(Rung.ROLLUP, Verdict.FORBIDDEN)
_NOT_ROLLED = LadderStep(Rung.ROLLUP, Verdict.NOT_APPLICABLE)


def refusal(plan: Plan | None, policy: AnswerPolicy, route: Route | None = None) -> BrokerError | None:
    """Why no source may answer under this policy, or None when one may; no plan stands for SQL."""
    problems: list[str] = []
    rolled = route is not None and route.rolled
    if policy.cache is CacheMode.ONLY:
        problems.append("cache_mode ONLY, but no cached answer exists")
    if policy.rollup is RollupMode.REQUIRE and not rolled:
        problems.append(
            f"rollup_mode REQUIRE, but no rollup of the dataset answers this query{_why_not(route)}"
        )
    if AnswerKind.LIVE not in policy.accepted_kinds and not rolled:
        problems.append("accepted_kinds leaves out LIVE, the only kind that could answer this query")
    if policy.max_relative_error is not None:
        for leaf in plan.main.leaves if plan is not None else ():
            bound = _BOUNDS.get(leaf.kind, 0.0)
            if bound > policy.max_relative_error:
                problems.append(
                    f"max_relative_error {policy.max_relative_error:g} is below the bound {bound:g} of "
                    f"{leaf.name!r}; use a measure of an exact kind"
                )
    if not problems:
        return None
    text = "No source satisfies the policy: " + "; ".join(problems) + "."
    return BrokerError(ErrorReason.POLICY_UNSATISFIABLE, text, metadata={"problems": "; ".join(problems)})


def _why_not(route: Route | None) -> str:
    why = told([scan.rejected for scan in route.scans]) if route is not None else ""
    return f" ({why})" if why else ""


def considered(policy: AnswerPolicy, route: Route | None = None) -> tuple[LadderStep, ...]:
    """The rungs above the live one that did not answer; rollups to which there is a route tell of themselves."""
    cached = policy.cache in (CacheMode.BYPASS, CacheMode.REVALIDATE)
    step = _NO_CACHE if cached else _NOT_CACHED
    if route is not None:
        return step
    return (*step, _NO_ROLLUP if policy.rollup is RollupMode.FORBID else _NOT_ROLLED)


def routed(inner: Handler) -> Handler:
    """Passes on the questions that a source may answer, each with the rungs that were considered for it."""

    async def handle(group: Group) -> Sequence[Outcome]:
        refusals = [refusal(q.plan, q.policy, q.route) for q in group.questions]
        going = [_routed(q) for q, refused in zip(group.questions, refusals, strict=True) if refused is None]
        outcomes = await inner(group.asking((*going,))) if going else ()
        answered = [acceptable(q, outcome) for q, outcome in zip(going, outcomes, strict=True)]
        if len(answered) < len(refusals):
            rest = iter(answered)
            return [next(rest) if refused is None else refused for refused in refusals]
        return answered

    return handle


def routed_stream(inner: StreamHandler) -> StreamHandler:
    """The same for a stream."""

    async def handle(group: Group) -> AsyncGenerator[ExploreEvent, None]:
        (question,) = group.questions
        refused = refusal(question.plan, question.policy, question.route)
        if refused is not None:
            raise refused
        async with aclosing(inner(group.asking((_routed(question),)))) as events:
            async for event in events:
                yield event

    return handle


def acceptable(question: Question, outcome: Outcome) -> Outcome:
    """The outcome, unless its kind is not accepted, or its replica lags by more than the caller or dataset allows."""
    if not isinstance(outcome, Answer):
        return outcome
    if (refused := unaccepted(question.policy, outcome.status.kind)) is not None:
        return refused
    lag: float | None = None
    for part in outcome.status.parts:
        if part.replica_lag is not None:
            lag = max(lag or 0.0, part.replica_lag)
    return outcome if lag is None else too_stale(question.policy, question.plan.main.dataset, lag) or outcome


def unaccepted(policy: AnswerPolicy, kind: AnswerKind) -> BrokerError | None:
    """Why an answer of this kind is none to the caller, or None when it is."""
    if kind in policy.accepted_kinds:
        return None
    accepted = ", ".join(sorted(each.value.upper() for each in policy.accepted_kinds))
    text = f"The answer would be {kind.value.upper()}, and accepted_kinds has only {accepted}."
    return BrokerError(ErrorReason.POLICY_UNSATISFIABLE, text, metadata={"kind": kind.value})


def too_stale(policy: AnswerPolicy, dataset: Dataset | None, lag: float | None) -> BrokerError | None:
    """Why a replica that lags by so many seconds may not answer, or None when it may; a primary has no lag."""
    allowed = policy.max_staleness
    if allowed is None and dataset is not None:
        allowed = dataset.max_staleness
    if allowed is None or lag is None or lag <= allowed:
        return None
    text = (
        f"The replica that answers is {lag:.3g} s behind, and max_staleness allows {allowed:g} s. "
        "Allow an older answer, or try again when the replica has caught up."
    )
    metadata = {"replica_lag_seconds": f"{lag:.3f}", "max_staleness_seconds": f"{allowed:g}"}
    return BrokerError(ErrorReason.POLICY_UNSATISFIABLE, text, metadata=metadata)


def _routed(question: Question) -> Question:
    return _WITH_LADDER(question, (*question.ladder, *considered(question.policy, question.route)))
