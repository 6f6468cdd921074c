"""Why rollups are passed over: a file of questions and rules, as Explain and the answers tell them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from broker.domain.rollup import Rule
from querybroker import Client, QueryBrokerError, Result, policy, query
from querybroker.v1 import answer_pb2, policy_pb2, query_service_pb2
from tests.support.cli import run_broker
from tests.support.pg import run_sync
from tests.support.rollups import rollup_store
from tests.system.rolled.place import Asking, Place, codes_of, kind_of, read_questions

UNREACHABLE = {Rule.JOIN}
"""Neither a model in which a rollup multiplies rows is taken nor a question that would."""
TROUBLE = """
ALTER TABLE broken DISABLE TRIGGER USER;
UPDATE names SET name = name || '!';
"""
QUESTIONS = read_questions("passed.yaml")


@pytest.fixture(scope="module")
def troubled(place: Place) -> Place:
    """The small datasets, each in its own trouble."""
    run_sync(_trouble(place))
    seal = ("rollup", "seal", "kept.daily", "--before", "2024-02-01", "--yes")
    sealed = run_broker(*seal, "--config", str(place.config), env={"DATABASE_URL": place.dsn})
    assert "kept.daily: sealed 1 partition" in sealed.stderr, sealed.stderr
    return place


async def _trouble(place: Place) -> None:
    await place.execute(TROUBLE)
    async with rollup_store(place.dsn, place.config) as (store, model):
        await store.quarantine(model.datasets["doubted"].rollups["daily"], "It is not to be believed.")


async def test_the_broker_knows_what_is_sealed_when_the_command_has_ended(troubled: Place) -> None:
    """So rows may be deleted then; nothing but the tables would be read, and no snapshot asked."""
    async with troubled.client() as client:
        answer = await asked(client, QUESTIONS["SEAL"], policy(rollup="forbid"))
    assert isinstance(answer, QueryBrokerError)
    assert answer.metadata["rule"] == "SEAL"


def test_there_is_a_question_for_every_rule_that_can_be_met() -> None:
    found = {
        Rule(code) for each in QUESTIONS.values() for codes in each.said["codes"].values() for code in codes
    }
    assert found == set(Rule) - UNREACHABLE


@pytest.mark.parametrize("name", QUESTIONS)
async def test_explain_and_the_answer_tell_by_which_rules_each_rollup_was_passed_over(
    troubled: Place, name: str
) -> None:
    asking = QUESTIONS[name]
    expected: dict[str, list[str]] = asking.said["codes"]
    async with troubled.client(asking.caller) as client:
        explained = await client.explain(asking.query, policy=asking.policy, kind="dashboard")
        assert told(codes_of(explained.candidates), asking) == expected
        assert named(explained.candidates)
        answer = await asked(client, asking, asking.policy)
        if asking.said.get("refused"):
            assert_refused(explained, answer, expected)
            return
        assert isinstance(answer, Result)
        assert told(codes_of(answer.status.ladder), asking) == expected
        assert named(answer.status.ladder)
        assert forbidden(explained.candidates) == []
        if kind_of(answer) == "live":
            terms = policy_pb2.AnswerPolicy()
            terms.CopyFrom(asking.policy)
            terms.rollup_mode = policy_pb2.ROLLUP_MODE_REQUIRE
            explained = await client.explain(asking.query, policy=terms, kind="dashboard")
            assert_refused(explained, await asked(client, asking, terms), expected)


async def test_who_needs_rows_that_may_be_gone_is_told_so_where_a_rollup_was_passed_over(
    troubled: Place,
) -> None:
    asking = QUESTIONS["SEAL"]
    async with troubled.client(asking.caller) as client:
        answer = await asked(client, asking, asking.policy)
    assert isinstance(answer, QueryBrokerError)
    assert (answer.metadata["rule"], answer.metadata["why_not"]) == ("SEAL", "daily: SEAL")
    assert "may be gone" in str(answer)
    assert "allow live answers" not in str(answer), "the tables cannot give what they no longer have"


async def asked(client: Client, asking: Asking, terms: policy_pb2.AnswerPolicy) -> Result | QueryBrokerError:
    """The answer, or why there is none."""
    try:
        return (await client.dashboard({"it": asking.query}, policy=terms))["it"]
    except QueryBrokerError as error:
        return error


def assert_refused(
    explained: query_service_pb2.ExplainResponse,
    answer: Result | QueryBrokerError,
    codes: dict[str, list[str]],
) -> None:
    """No source may answer, as Explain says as well, and the first rollups are told with their rules."""
    assert isinstance(answer, QueryBrokerError)
    assert answer.reason == "POLICY_UNSATISFIABLE"
    named = [name for name, rules in codes.items() if f"{name}: {', '.join(rules)}" in str(answer)]
    assert len(named) == min(5, len(codes))
    assert forbidden(explained.candidates) == ["POLICY_UNSATISFIABLE"]


def told(codes: dict[str, list[str]], asking: Asking) -> dict[str, list[str]]:
    """The codes without rollups that were only dearer, unless the question is about them: costs are learned."""
    named = asking.said["codes"]
    return {rollup: rules for rollup, rules in codes.items() if rules != [Rule.COST] or rollup in named}


def named(steps: Iterable[answer_pb2.LadderStep]) -> bool:
    """Whether those that lack a dimension say which, and nobody else does."""
    return all(("does not store '" in step.detail) is (Rule.KEYS in step.codes) for step in steps)


def forbidden(steps: Iterable[answer_pb2.LadderStep]) -> list[str]:
    """Why the source that would answer may not."""
    verdict = answer_pb2.LADDER_VERDICT_FORBIDDEN
    return [code for step in steps if step.verdict == verdict for code in step.codes]


async def test_a_question_that_would_multiply_rows_is_refused_before_rollups_are_looked_at(
    place: Place,
) -> None:
    async with place.client() as client:
        for terms in (policy(rollup="require"), policy(rollup="forbid")):
            with pytest.raises(QueryBrokerError, match="one-to-many") as refused:
                await client.explain(query("families", measures="sales", dimensions="tag"), policy=terms)
            assert refused.value.reason == "INVALID_REQUEST"
