"""A database with rollups of many kinds, a worker that builds them, and a broker that serves from them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from broker.adapters.auth_keys import digest, make_key
from broker.adapters.migrate import COMPONENTS, migrate
from broker.cli.ask.question import question_of
from broker.domain.rollup import Storage
from querybroker import Client, Result
from querybroker.v1 import answer_pb2, job_pb2, policy_pb2, query_pb2, query_service_pb2
from tests.support.pg import run_sync
from tests.support.rollups import install, rollup_store
from tests.support.server import RunningBroker

HERE = Path(__file__).parent
CALLERS = {"alice": "acme", "gus": "globex"}
"""Callers that have a tenant, and no grants; the others are let see everything."""
_SMALL = """
  {name}:
    table: public.{name}
    primary_key: {{id: int64}}
    default_time: at
    joins:
      names: {{table: public.names, on: names.kind = {name}.kind}}
    dimensions:
      at: {{type: timestamp, time: true}}
      kind: string
      name: {{column: names.name, type: string}}
    measures:
      rows: {{kind: count}}
    rollups:
      daily: {{measures: [rows], {rollup}}}
"""
SMALL = {
    "broken": "dimensions: [kind]",
    "churned": "dimensions: [name]",
    "unbuilt": "dimensions: [kind], start: 2024-02-01",
    "kept": "dimensions: [kind]",
    "doubted": "dimensions: [kind]",
    "added": "dimensions: [kind], tracking: append_only, lateness: 1d",
    "alike": "dimensions: [kind], grains: [hour], storage: table",
}
"""Datasets for one trouble each, and what is declared of their rollups."""
_FOREIGN = """
  foreign:
    table: public.added
    primary_key: {id: int64}
    default_time: at
    dimensions:
      at: {type: timestamp, time: true}
      kind: string
    measures:
      rows: {kind: count}
    rollups:
      theirs:
        storage: external
        relation: public.foreign_hours
        grains: [hour]
        dimensions: [kind]
        measures: [rows]
        columns: {at: bucket, rows: n}
"""


def key_of(name: str) -> str:
    """The API key of a caller."""
    return make_key(name.encode().ljust(24, b"."))


def model() -> str:
    """The configuration."""
    keys = [
        f"    {name}: {{tenant: {tenant}, hashes: ['sha256:{digest(key_of(name)).hex()}']}}"
        for name, tenant in CALLERS.items()
    ]
    small = [_SMALL.format(name=name, rollup=rollup) for name, rollup in SMALL.items()]
    text = (HERE / "model.yaml").read_text().replace("KEYS", "\n".join(keys))
    return text.replace("SMALL", "".join(small) + _FOREIGN)


@dataclass(frozen=True, slots=True)
class Asking:
    """A question of a file: its name, what is asked by whom, and all that the file says of it."""

    name: str
    query: query_pb2.Query
    policy: policy_pb2.AnswerPolicy
    caller: str
    said: Mapping[str, Any]

    def panel(self, mode: policy_pb2.RollupMode.ValueType | None = None) -> query_service_pb2.Panel:
        """The question as a panel, with another mode of rollups when one is given."""
        panel = query_service_pb2.Panel(query=self.query, policy=self.policy)
        if mode is not None:
            panel.policy.rollup_mode = mode
        return panel


def read_questions(file: str) -> dict[str, Asking]:
    """The questions of a file beside this one, by name. What is no part of a question is kept as ``said``."""
    found: dict[str, Asking] = {}
    for name, given in yaml.safe_load((HERE / file).read_text()).items():
        query = {"dataset": "sales", **given["ask"]}
        question = question_of({"query": query, "policy": given.get("policy", {})})
        assert isinstance(question.source, query_pb2.Query)
        found[name] = Asking(name, question.source, question.policy, given.get("caller", ""), given)
    return found


def kind_of(result: Result) -> str:
    """How a question was answered, in lower case."""
    return answer_pb2.AnswerKind.Name(result.status.kind).removeprefix("ANSWER_KIND_").lower()


def codes_of(steps: Iterable[answer_pb2.LadderStep]) -> dict[str, list[str]]:
    """The rules by which rollups were passed over, by rollup."""
    rung, passed = answer_pb2.LADDER_RUNG_ROLLUP, answer_pb2.LADDER_VERDICT_NOT_APPLICABLE
    return {s.source_name: list(s.codes) for s in steps if s.rung == rung and s.verdict == passed}


@dataclass(frozen=True)
class Place:
    """The database, the file of the model, the broker."""

    dsn: str
    config: Path
    home: Path
    broker: RunningBroker

    def client(self, caller: str = "") -> Client:
        """A client of a caller, or of somebody who may do everything."""
        return Client(self.broker.address, api_key=key_of(caller) if caller else "", throttle=False)

    async def execute(self, statements: str) -> None:
        """Changes something in one transaction."""
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(statements)
        await connection.close()

    async def refreshed(self, *datasets: str) -> None:
        """Returns when a worker has brought all rollups of the datasets up to date, as jobs."""
        async with rollup_store(self.dsn, self.config) as (_, declared), self.client() as client:
            names = [
                f"datasets/{dataset}/rollups/{rollup.name}"
                for dataset in datasets
                for rollup in declared.datasets[dataset].rollups.values()
                if rollup.storage is not Storage.EXTERNAL
            ]
            jobs = [await client.rollups.refresh(name) for name in names]
            ended = await asyncio.gather(*(client.jobs.wait(job.name) for job in jobs))
        assert {job.state for job in ended} == {job_pb2.JOB_STATE_SUCCEEDED}, ended


def prepare(dsn: str, config: Path) -> None:
    """Makes the tables, and installs the rollups."""
    config.write_text(model())
    run_sync(_prepare(dsn, config))


async def _prepare(dsn: str, config: Path) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute((HERE / "data.sql").read_text())
    await connection.close()
    for component in COMPONENTS:
        await migrate(dsn, component)
    await install(dsn, config)
