"""Submissions that read the tables say so when they are asked for a dataset that a job made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError
from broker.domain.job import ExportFormat
from broker.domain.principal import Principal
from broker.domain.query import Query
from broker.domain.request import CallContext
from broker.domain.terms import AnswerPolicy
from broker.domain.work import JobAsk, MaterializeWork, ReportSection, ReportWork, Work
from broker.jobs.materialised import MaterialisedDatasets
from broker.jobs.materialised_export import TablesOnly

MADE, TABLE = Query("made", ("n",)), Query("flights", ("n",))
CALL = CallContext("call-1", Principal("ada", "acme"), Deadline(1e12), datetime.now(UTC))


class Beside:
    """Datasets of jobs: `made` is there."""

    def __init__(self) -> None:
        model = SimpleNamespace(datasets={"flights": None})
        self.planner = SimpleNamespace(catalog=SimpleNamespace(model=model))
        self.asked: list[str] = []

    async def find(self, _: CallContext, names: Sequence[str]) -> Mapping[str, object]:
        self.asked += names
        return {name: object() for name in names if name == "made"}


def ask(work: Work) -> JobAsk:
    return JobAsk(work, AnswerPolicy(), "", b"", "", path="spec")


@pytest.mark.parametrize(
    ("work", "path"),
    [
        (
            ReportWork((ReportSection("a", TABLE), ReportSection("b", MADE)), ExportFormat.CSV),
            "spec.sections[1].query.dataset",
        ),
        (MaterializeWork(MADE, "more", None), "spec.query.dataset"),
    ],
)
async def test_what_a_job_made_is_of_another_moment(work: Work, path: str) -> None:
    beside, inner = Beside(), list[JobAsk]()

    async def check(_: CallContext, given: JobAsk) -> None:
        inner.append(given)

    checked = TablesOnly(check, cast("MaterialisedDatasets", beside))
    with pytest.raises(BrokerError) as caught:
        await checked.check(CALL, ask(work))
    assert [(v.field, v.code) for v in caught.value.violations] == [(path, "MADE_BY_JOB")]
    assert (beside.asked, inner) == (["made"], [])


@pytest.mark.parametrize("name", ["flights", "nowhere"])
async def test_everything_else_is_checked_as_before(name: str) -> None:
    beside, inner = Beside(), list[JobAsk]()

    async def check(_: CallContext, given: JobAsk) -> None:
        inner.append(given)

    given = ask(MaterializeWork(Query(name, ("n",)), "more", None))
    await TablesOnly(check, cast("MaterialisedDatasets", beside)).check(CALL, given)
    assert inner == [given]
    assert beside.asked == ([] if name == "flights" else ["nowhere"])
