"""A key that was made is the one that its entry lets in."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.app.options import authenticator
from broker.cli.exits import Exit
from broker.cli.program import run
from broker.config.loader import load
from broker.domain.errors import BrokerError, ErrorReason
from tests.support.server import FLIGHTS_MODEL


async def test_a_key_is_let_in_by_its_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "nightly", "--tenant", "web", "--grant", "sql", "--grant", "admin"]) == Exit.OK
    said = capsys.readouterr()
    made = said.out.strip()
    config = tmp_path / "querybroker.yaml"
    config.write_text(f"{FLIGHTS_MODEL.read_text()}\n{said.err}")
    known = authenticator(load(config, {}, database_needed=False).settings.auth)
    caller = await known.authenticate({"x-api-key": made}, "ipv4:192.0.2.1:1")
    assert (caller.name, caller.tenant, caller.grants) == ("nightly", "web", frozenset({"sql", "admin"}))
    with pytest.raises(BrokerError) as refused:
        await known.authenticate({"x-api-key": made[:-1] + "g"}, "ipv4:192.0.2.1:1")
    assert refused.value.reason is ErrorReason.UNAUTHENTICATED


def test_every_key_is_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["key", "web"]) == Exit.OK
    one, other = capsys.readouterr().out.splitlines()
    assert one != other
    assert len(one) == len("qb_") + 48


def test_everything_that_the_configuration_would_not_take_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "Web Team", "--tenant", "A b", "--grant", ""]) == Exit.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.partition(":")[0] for line in said.err.splitlines()] == ["NAME", "tenant", "grants.0"]
    assert run(["key", "web_team"]) == Exit.OK
    assert '"tenant": "web-team"' in capsys.readouterr().err
