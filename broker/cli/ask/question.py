"""A question from a file or from options: a query or SQL, with its policy; or a dashboard of several queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

import yaml

from broker.cli.ask.literals import parse_value, shown
from broker.cli.ask.messages import fill
from broker.cli.ask.problems import QuestionError, UnreadableError
from querybroker.v1.policy_pb2 import AnswerPolicy
from querybroker.v1.query_pb2 import Query, SqlQuery
from querybroker.v1.query_service_pb2 import DashboardRequest

_NUMBER = re.compile(r"\d+(\.\d+)?")
_REQUEST_KEYS = frozenset({"query", "sql", "policy"})


@dataclass(frozen=True, slots=True)
class Question:
    """One question and the caller's terms."""

    source: Query | SqlQuery
    policy: AnswerPolicy


def read_data(file: TextIO) -> Mapping[str, object]:
    """The mapping in a YAML or JSON file. Raises `QuestionError`."""
    try:
        data = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise QuestionError([("", f"{file.name} is neither YAML nor JSON: {error}")]) from None
    if not isinstance(data, Mapping):
        raise QuestionError([("", f"{file.name} must hold a mapping with a question, not {shown(data)}")])
    return data


def question_of(data: Mapping[str, object]) -> Question:
    """The question in a mapping: a query itself, or ``query`` or ``sql`` beside ``policy``. Raises `QuestionError`."""
    if "panels" in data:
        raise QuestionError([("panels", "a dashboard is asked by `broker query`; this takes one question")])
    bare = "dataset" in data or not _REQUEST_KEYS & data.keys()
    request = {"query": {k: v for k, v in data.items() if k != "policy"}} if bare else data
    if bare and data.get("policy") is not None:
        request = {**request, "policy": data["policy"]}
    unknown = [
        (str(key), "is no key here; known are query, sql, policy")
        for key in request
        if key not in _REQUEST_KEYS
    ]
    if unknown or ("query" in request) == ("sql" in request):
        raise QuestionError(unknown or [("", "give one of query and sql")])
    policy = AnswerPolicy()
    holder: Query | SqlQuery = SqlQuery() if "sql" in request else Query()
    name = "sql" if "sql" in request else "query"
    given = request[name]
    if isinstance(given, str) and name == "sql":
        given = {"text": given}
    problems: list[tuple[str, str]] = []
    for target, key, part in ((holder, name, given), (policy, "policy", request.get("policy") or {})):
        if not isinstance(part, Mapping):
            problems.append((key, f"must be a mapping, not {shown(part)}"))
            continue
        try:
            fill(target, part)
        except QuestionError as wrong:
            above = "" if bare and key == "query" else f"{key}."
            problems += [(above + place, text) for place, text in wrong.problems]
    if problems:
        raise QuestionError(problems)
    return Question(holder, policy)


def dashboard_of(data: Mapping[str, object]) -> DashboardRequest:
    """The dashboard in a mapping: ``panels`` and what goes with them, or a single question. Raises `QuestionError`."""
    request = DashboardRequest()
    if "panels" in data:
        fill(request, data)
        return request
    question = question_of(data)
    if isinstance(question.source, SqlQuery):
        raise QuestionError([("sql", "a dashboard takes no SQL; ask it by `broker explore`")])
    request.panels.add(panel_id="query", query=question.source)
    request.policy.CopyFrom(question.policy)
    return request


def policy_data(settings: tuple[str, ...]) -> dict[str, object]:
    """The policy of options such as ``max_staleness=60s``, as data for `question_of`. Raises `QuestionError`."""
    policy: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise QuestionError([("policy", f"cannot read {setting!r}; write it as max_staleness=60s")])
        policy[name.strip()] = yaml.safe_load(text) if _NUMBER.fullmatch(text) else text.strip()
    return policy


def sql_data(text: str, parameters: tuple[str, ...]) -> dict[str, object]:
    """SQL with the values of ``$1``, ``$2`` and so on, as data for `question_of`. Raises `QuestionError`."""
    values = []
    for i, parameter in enumerate(parameters):
        try:
            values.append(parse_value(parameter))
        except UnreadableError as wrong:
            raise QuestionError([(f"parameter ${i + 1}", str(wrong))]) from None
    return {"text": text, "parameters": values}
