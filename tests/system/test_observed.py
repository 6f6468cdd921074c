"""Metrics and logs of a running broker: what the pages promise is there, moves, and can be put together."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
import uuid
from collections import defaultdict
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.telemetry import catalog, catalog_cache
from broker.telemetry.document import prometheus_name
from broker.telemetry.names import Metric
from querybroker import Client, QueryBrokerError, query
from tests.support.eventually import eventually
from tests.support.telemetry import OF_TROUBLE
from tests.system.secured import Secured, key_of

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OF_CACHE = {catalog.CACHE_LOOKUPS, catalog.FLIGHT_FOLLOWERS, catalog.FALLBACK, *catalog_cache.METRICS} - {
    catalog_cache.CACHE_SIZE, catalog_cache.CACHE_ENTRIES,
}  # fmt: skip
"""Metrics of a cache that is on; how large one is that is off is known."""
OF_WORKERS = {catalog.JOB_DURATION}
"""Metrics that only the process of jobs has."""

Samples = Mapping[str, float]


async def scrape(address: str) -> Samples:
    """The sum of every metric's samples, by the metric's name: of histograms their counts."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
            return str(response.read().decode())

    found: defaultdict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(await asyncio.to_thread(read)):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_sum", "_created")):
                found[sample.name.removesuffix("_count")] += sample.value
    return found


def name(metric: Metric) -> str:
    """The metric's name among samples, where the counts of jobs and the like end as those of histograms do."""
    return prometheus_name(metric).removesuffix("_count")


async def use(secured: Secured) -> None:
    """A call of every kind; one that is refused, and one after a worker process was killed."""
    async with secured.client("boss") as client:
        await client.ask(query("sales", measures=["notes"], dimensions=["region"]))
        await client.explain(query("sales", measures=["sales"]))
        with pytest.raises(QueryBrokerError):
            await client.ask(query("sales", measures=["sales"], dimensions=["odds"]))
        job = await client.jobs.submit(query("sales", dimensions=["id"]))
        await client.jobs.wait(job.name, timeout=60)
        for process in secured.broker.workers():
            if not process.children():  # the fork server's children, not itself
                process.send_signal(signal.SIGKILL)
        async with client.explore(query("sales", dimensions=["id", "note"])) as stream:
            assert len(await stream.collect()) == 20_000


async def test_the_metrics_of_the_page_are_there_and_move(secured: Secured) -> None:
    before = await scrape(secured.broker.metrics)
    await use(secured)

    async def told() -> bool:
        seen = await scrape(secured.broker.metrics)
        counted = all(name(metric) in seen for metric in (catalog.JOBS, catalog.JOB_QUEUE_AGE))
        return counted and seen[name(catalog.WORKER_RESTARTS)] >= 2

    await eventually(told, "the queue has been counted and the workers have been replaced")
    after = await scrape(secured.broker.metrics)
    missing = {metric.name for metric in set(catalog.METRICS) - OF_TROUBLE if name(metric) not in after}
    assert missing == {metric.name for metric in OF_CACHE | OF_WORKERS}
    moving = [
        catalog.RPC_DURATION, catalog.DB_DURATION, catalog.DB_WAIT, catalog.ADMISSION, catalog.QUEUE_DURATION,
        catalog.SEAT_DURATION, catalog.DEADLINE_REMAINING, catalog.ANSWERS, catalog.ANSWER_AGE,
        catalog.AGGREGATION_DURATION, catalog.WORKER_RESTARTS, catalog.LOOP_LAG,
    ]  # fmt: skip
    assert [metric.name for metric in moving if after[name(metric)] <= before.get(name(metric), 0.0)] == []
    resting = [catalog.SEAT_USAGE, catalog.QUEUE_LENGTH, catalog.WORKER_USAGE, catalog.WATCH_STREAMS]
    assert [after[name(metric)] for metric in resting] == [0.0] * 4
    assert 2 + 2 <= after[name(catalog.SEAT_LIMIT)] <= 100 + 10 + 2
    assert after[name(catalog.WORKER_LIMIT)] == 2
    assert (await scrape(secured.worker_metrics))[name(catalog.JOB_DURATION)] >= 1


async def test_every_call_is_one_line_with_its_trace_and_nothing_else_tells_of_refusals(
    secured: Secured,
) -> None:
    request_id = str(uuid.uuid4())
    carried = [("traceparent", f"00-{TRACE}-{CALLER}-01")]
    offset = secured.broker.log.stat().st_size
    async with Client(secured.broker.address, api_key=key_of("alice"), metadata=carried) as client:
        for question, reason in (
            (query("sales", measures=["sales"]), ""),
            (query("sales", measures=["sales"], dimensions=["odds"]), "STORE_REJECTED"),
            (query("sales", measures=["profit"]), "INVALID_REQUEST"),
        ):
            try:
                request_id = (await client.dashboard({"only": question})).request_id
                assert reason == ""
            except QueryBrokerError as error:
                request_id = error.request_id
            lines = [json.loads(line) for line in secured.broker.log.read_bytes()[offset:].splitlines()]
            (line,) = [line for line in lines if line.get("request_id") == request_id]
            assert (line["trace_id"], line["level"], line["logger"]) == (TRACE, "INFO", "querybroker.access")
            assert (line["rpc_method"], line["tenant"], line["principal"]) == (
                "querybroker.v1.QueryService/Dashboard", "acme", "alice",
            )  # fmt: skip
            assert line.get("reason", "") == reason
            assert line["duration_ms"] > 0
            assert line["span_id"] != CALLER
            assert {line["level"] for line in lines if line.get("trace_id") == TRACE} == {"INFO"}


async def test_nothing_secret_is_logged(secured: Secured) -> None:
    async with secured.client("alice") as client:
        await client.ask(query("sales", measures=["sales"], where={"note": "a very secret value"}))
    log = secured.broker.log.read_text()
    assert "a very secret value" not in log
    assert key_of("alice") not in log
    assert secured.dsn.split("@")[0].rpartition(":")[2] not in log, "the password of the database"
