"""Questions in files and options: what they mean, and what is said about those that cannot be sent."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
import yaml
from google.protobuf import json_format, text_format

from broker.cli.ask.problems import QuestionError
from broker.cli.ask.question import dashboard_of, policy_data, question_of, read_data, sql_data
from querybroker.v1 import policy_pb2, query_pb2
from querybroker.v1.query_pb2 import Query


def query(text: str) -> Query:
    source = question_of(yaml.safe_load(text)).source
    assert isinstance(source, Query)
    return source


def problems(data: Mapping[str, object]) -> dict[str, str]:
    with pytest.raises(QuestionError) as caught:
        question_of(data)
    return dict(caught.value.problems)


def test_short_forms_mean_what_the_contract_spells_out() -> None:
    short = query("""
        dataset: flights
        measures: flights, avg_dep_delay
        by: [carrier, dest]
        time: {dimension: departure, range: 2013-Q2, grain: day, zone: America/New_York, fill: true}
        where: origin = JFK
        having: flights > 10
        order: -flights, carrier asc nulls first
        top: 5 dest by flights with other
        compare: 1 year of flights
        share: [flights within carrier]
        rolling: flights over 7
        limit: 10
    """)
    spelled = text_format.Parse(
        """
        dataset: "flights" measures: "flights" measures: "avg_dep_delay"
        dimensions: "carrier" dimensions: "dest"
        time { dimension: "departure" grain: TIME_GRAIN_DAY zone: "America/New_York" gap_fill: true
          dates { start_date { year: 2013 month: 4 day: 1 } end_date { year: 2013 month: 7 day: 1 } } }
        filter { condition { member: "origin" operator: FILTER_OPERATOR_EQ values { string_value: "JFK" } } }
        having { condition { member: "flights" operator: FILTER_OPERATOR_GT values { int64_value: 10 } } }
        order { member: "flights" direction: SORT_DIRECTION_DESC }
        order { member: "carrier" direction: SORT_DIRECTION_ASC nulls: NULL_ORDER_FIRST }
        calculations {
          top_n { count: 5 dimension: "dest" by: "flights" other: true }
          compare_to { count: 1 unit: TIME_GRAIN_YEAR measures: "flights" }
          shares { measure: "flights" within: "carrier" }
          rolling_windows { measure: "flights" buckets: 7 } }
        limit: 10
        """,
        Query(),
    )
    assert short == spelled


def test_the_contract_s_own_json_is_understood() -> None:
    message = query(
        "{dataset: d, measures: m, where: 'a = 1 and b in (x, y)', time: {range: 2013, grain: week}}"
    )
    assert question_of(json_format.MessageToDict(message)).source == message
    snake = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert question_of({"query": snake}).source == message


def between(start: str, end: str) -> str:
    (y1, m1, d1), (y2, m2, d2) = start.split("-"), end.split("-")
    first, after = f"year: {y1} month: {m1} day: {d1}", f"year: {y2} month: {m2} day: {d2}"
    return f"dates {{ start_date {{ {first} }} end_date {{ {after} }} }}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013", between("2013-1-1", "2014-1-1")),
        ("2013-12", between("2013-12-1", "2014-1-1")),
        ("2013-q4", between("2013-10-1", "2014-1-1")),
        ("2012-02-29", between("2012-2-29", "2012-3-1")),
        ("2013-01-01 .. 2013-01-03", between("2013-1-1", "2013-1-3")),
        (
            "1970-01-01T00:00Z..1970-01-01T01:00+00:00",
            "absolute { start_time {} end_time { seconds: 3600 } }",
        ),
        ("last 7 days", "relative { count: 7 unit: TIME_GRAIN_DAY }"),
        ("last month", "relative { count: 1 unit: TIME_GRAIN_MONTH }"),
        ("Last 3 hours to date", "relative { count: 3 unit: TIME_GRAIN_HOUR include_current: true }"),
        ("this year", "relative { count: 1 unit: TIME_GRAIN_YEAR include_current: true }"),
    ],
)
def test_ranges(text: str, expected: str) -> None:
    time = query(yaml.safe_dump({"dataset": "d", "time": {"range": text}})).time
    assert time == text_format.Parse(expected, query_pb2.TimeSelection())


def test_every_problem_is_named_at_once_with_its_place() -> None:
    found = problems(
        yaml.safe_load("""
            dataset: 5
            mesures: flights
            where: "a ="
            time: {range: last 7 wecks, grain: dayly, zone: {}}
            limit: many
            order: [a b c]
            top: five
            calculations: {rolling_windows: [{measure: x, buckets: 3000000000}]}
        """)
    )
    assert set(found) == {
        "dataset",
        "mesures",
        "where",
        "time.relative.unit",
        "time.grain",
        "time.zone",
        "limit",
        "order[0]",
        "top",
        "calculations.rolling_windows[0].buckets",
    }
    assert "did you mean 'measures'?" in found["mesures"]
    assert "did you mean 'week'?" in found["time.relative.unit"]
    assert "5 dest by flights" in found["top"]
    assert "32 bits" in found["calculations.rolling_windows[0].buckets"]


def test_problems_below_query_and_policy_say_so() -> None:
    found = problems(
        {"query": {"datset": "x"}, "policy": {"max_staleness": "1x", "consistency": "snapshots"}}
    )
    assert set(found) == {"query.datset", "policy.max_staleness", "policy.consistency"}


@pytest.mark.parametrize(
    "data",
    [
        {"query": {"dataset": "d"}, "sql": "SELECT 1"},
        {"policy": {}},
        {"query": {"dataset": "d"}, "limit": 5},
        {"query": "flights"},
        {"panels": []},
    ],
)
def test_a_file_holds_one_question(data: dict[str, object]) -> None:
    assert problems(data)


def test_policies_of_options() -> None:
    given = (
        "max_staleness=5m",
        "accepted_kinds=live, rollup",
        "consistency=snapshot",
        "max_relative_error=0.02",
    )
    policy = question_of({"query": {"dataset": "d"}, "policy": policy_data(given)}).policy
    assert policy.max_staleness.seconds == 300
    assert list(policy.accepted_kinds) == [1, 3]
    assert policy.consistency == policy_pb2.CONSISTENCY_SNAPSHOT
    assert policy.max_relative_error == 0.02
    with pytest.raises(QuestionError, match="max_staleness=60s"):
        policy_data(("max_staleness",))


def test_sql_has_parameters_in_order() -> None:
    sql = question_of({"sql": sql_data("SELECT $1, $2", ("7", "x"))}).source
    assert isinstance(sql, query_pb2.SqlQuery)
    assert [value.WhichOneof("kind") for value in sql.parameters] == ["int64_value", "string_value"]
    with pytest.raises(QuestionError, match=r"parameter \$1"):
        sql_data("SELECT $1", ("null",))


def test_a_dashboard_has_panels_or_is_a_single_question() -> None:
    request = dashboard_of(
        yaml.safe_load("""
            dashboard_id: morning
            policy: {max_staleness: 1m}
            panels:
              - {id: a, dataset: flights, measures: flights, policy: {max_staleness: 0}}
              - {panel_id: b, query: {dataset: flights}}
        """)
    )
    assert [panel.panel_id for panel in request.panels] == ["a", "b"]
    assert request.panels[0].policy.HasField("max_staleness")
    assert request.panels[0].query.measures == ["flights"]
    assert dashboard_of({"dataset": "flights"}).panels[0].query.dataset == "flights"
    with pytest.raises(QuestionError, match="broker explore"):
        dashboard_of({"sql": "SELECT 1"})


@pytest.mark.parametrize("text", ["a: [", "- 1", ""])
def test_a_file_without_a_mapping_is_refused(text: str) -> None:
    file = io.StringIO(text)
    file.name = "panel.yaml"
    with pytest.raises(QuestionError, match=r"panel\.yaml"):
        read_data(file)
