"""Who is let in, and what each caller sees of data, datasets and jobs."""

from __future__ import annotations

import csv
import io

import pytest

from querybroker import Client, QueryBrokerError, query
from querybroker.v1 import job_pb2
from tests.system.secured import Secured, key_of

SALES = query("sales", measures=["sales", "notes"], dimensions=["tenant"], order_by="tenant")
FOR_LEDGER = query("ledger", measures=["entries"])
COUNTS = {
    "alice": {"acme": 15_000},
    "bob": {"globex": 5_000},
    "boss": {"acme": 15_000, "globex": 5_000},
    "": {},
}


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        ("qb_" + "0" * 48, ()),
        (key_of("alice")[:-1], ()),
        ("", [("authorization", "Basic YWxpY2U6")]),
        ("", [("authorization", "Bearer eyJhbGciOi")]),
        ("", [("x-forwarded-for", "192.0.2.1")]),  # from another machine, by way of a proxy on this one
        ("", [("forwarded", "for=192.0.2.1")]),
    ],
)
async def test_unknown_credentials_are_refused(
    secured: Secured, key: str, metadata: list[tuple[str, str]]
) -> None:
    async with Client(secured.broker.address, api_key=key, metadata=metadata) as client:
        for call in (client.datasets(), client.ask(SALES), client.jobs.get("tenants/acme/jobs/1")):
            with pytest.raises(QueryBrokerError) as caught:
                await call
            assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


async def test_a_key_counts_by_either_header_and_behind_a_proxy(secured: Secured) -> None:
    headers = [("authorization", f"Bearer {key_of('bob')}"), ("x-forwarded-for", "192.0.2.1")]
    async with Client(secured.broker.address, metadata=headers) as client:
        assert {row["tenant"]: row["sales"] for row in await client.ask(SALES)} == COUNTS["bob"]


@pytest.mark.parametrize("name", COUNTS)
async def test_row_policies_hold_in_every_call(secured: Secured, name: str) -> None:
    async with secured.client(name) as client:
        assert {row["tenant"]: row["sales"] for row in await client.ask(SALES)} == COUNTS[name]
        async with client.explore(SALES) as stream:
            assert {row["tenant"]: row["sales"] for row in await stream.collect()} == COUNTS[name]
        async with client.explore(query("sales", dimensions=["tenant", "id"])) as stream:
            assert len(await stream.collect()) == sum(COUNTS[name].values())


async def test_row_policies_hold_in_exports_and_show_in_statements(secured: Secured) -> None:
    async with secured.client("alice") as client:
        job = await client.jobs.submit(query("sales", dimensions=["tenant", "id"]), format="csv")
        job = await client.jobs.wait(job.name, timeout=60)
        data = b"".join([piece async for piece in client.jobs.read(job.name)])
        explanation = await client.explain(SALES)
        assert (list(explanation.statements), explanation.fingerprint != "") == ([], True)
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert (len(rows), {row["tenant"] for row in rows}) == (15_000, {"acme"})
    async with secured.client("bob") as client:
        assert (await client.explain(SALES)).fingerprint != explanation.fingerprint
    async with secured.client("boss") as client:
        (statement, *_) = (await client.explain(SALES)).statements
        assert "public.sales" in statement
        assert "acme" not in statement


async def test_attributes_of_the_tenant_feed_row_policies_and_may_not_be_missing(secured: Secured) -> None:
    regional = query("regional", measures=["sales"], dimensions=["region"])
    for name, region in (("alice", "region-1"), ("bob", "region-2")):
        async with secured.client(name) as client:
            assert list(await client.ask(regional)) == [{"region": region, "sales": 4_000}]
    async with secured.client("boss") as client:
        with pytest.raises(QueryBrokerError) as caught:
            await client.ask(regional)
        assert (caught.value.code, caught.value.metadata["needs"]) == (
            "PERMISSION_DENIED",
            "attributes.region",
        )


async def test_a_dataset_without_its_grant_does_not_exist(secured: Secured) -> None:
    async with secured.client("bob") as client:
        assert list(await client.ask(FOR_LEDGER)) == [{"entries": 10}]
        assert (await client.dataset("ledger")).name == "datasets/ledger"
    async with secured.client("alice") as client:
        assert "datasets/ledger" not in [dataset.name for dataset in await client.datasets()]
        for call in (
            client.dataset("ledger"),
            client.ask(FOR_LEDGER),
            client.explain(FOR_LEDGER),
            client.jobs.submit(FOR_LEDGER),
            client.explore(FOR_LEDGER).__aenter__(),
        ):
            with pytest.raises(QueryBrokerError) as caught:
                await call
            assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "DATASET_NOT_FOUND")
        both = await client.dashboard({"sales": SALES, "ledger": FOR_LEDGER})
        assert {row["tenant"] for row in both["sales"]} == {"acme"}
        with pytest.raises(QueryBrokerError) as caught:
            both["ledger"]
        assert caught.value.reason == "DATASET_NOT_FOUND"


async def listed(client: Client, *, all_owners: bool = False) -> set[str]:
    return {job.name async for job in client.jobs.list(all_owners=all_owners)}


async def test_a_job_is_its_owners_and_does_not_exist_for_others(secured: Secured) -> None:
    async with secured.client("alice") as client:
        name = (await client.jobs.submit(query("sales", measures=["sales"]))).name
        await client.jobs.wait(name, timeout=60)
        assert name in await listed(client)
    for caller in ("andy", "bob", ""):  # of the same tenant, of another one, nobody
        async with secured.client(caller) as client:
            assert name not in await listed(client)
            for call in (
                client.jobs.get(name),
                client.jobs.cancel(name),
                anext(client.jobs.watch(name)),
                anext(client.jobs.read(name)),
            ):
                with pytest.raises(QueryBrokerError) as caught:
                    await call
                assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "JOB_NOT_FOUND")
            with pytest.raises(QueryBrokerError) as caught:
                await listed(client, all_owners=True)
            assert caught.value.reason == "PERMISSION_DENIED"
    async with secured.client("carol") as client:  # may read the jobs of her tenant, and change none
        assert name in await listed(client, all_owners=True)
        assert (await client.jobs.get(name)).state == job_pb2.JOB_STATE_SUCCEEDED
        with pytest.raises(QueryBrokerError) as caught:
            await client.jobs.cancel(name)
        assert caught.value.reason == "PERMISSION_DENIED"
    async with secured.client("boss") as client:  # of another tenant, and an operator
        assert (await client.jobs.get(name)).owner == "alice"
