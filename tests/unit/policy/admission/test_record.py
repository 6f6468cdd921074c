"""The decision log: what is read is what was written, and what is no log is told so."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.pool import BackendLimits, LimitMode, PoolLimits, PoolName, TenantLimits
from broker.domain.principal import Criticality
from broker.policy.admission import events
from broker.policy.admission.backend import BackendSpec
from broker.policy.admission.events import Configuration, Entry, RecordedBackend
from broker.policy.admission.limit import StaticLimit
from broker.policy.admission.record import (
    LogError,
    decode,
    decode_header,
    encode,
    encode_header,
    read,
)
from broker.policy.admission.scheduler import Scheduler
from broker.policy.admission.values import (
    AdmissionRequest,
    Admitted,
    Decision,
    Outcome,
    Pressure,
    Queued,
    Refused,
    Signal,
)
from tests.support.recordings import RecordingCore


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type: every field of every dataclass, so that a new one is never forgotten."""
    inner = [of(each) for each in get_args(hint) if each is not Ellipsis]
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: of(hints[field.name]) for field in fields(hint)})
    if get_origin(hint) is tuple:
        return st.lists(inner[0], max_size=3).map(tuple)
    if get_origin(hint) is Mapping:
        return st.dictionaries(*inner, max_size=3)
    if inner:
        return st.one_of(inner)
    return st.floats(allow_nan=False) if hint is float else st.from_type(hint)


@given(st.builds(Entry, st.floats(0, 1e9), of(events.Event), of(tuple[Decision, ...])))
def test_what_was_written_is_read(entry: Entry) -> None:
    line = encode(entry)

    assert line.isascii()
    assert line.index("\n") == len(line) - 1
    assert decode(line) == entry


@given(of(Configuration))
def test_a_configuration_survives_but_for_addresses(configuration: Configuration) -> None:
    pools = {name: replace(limits, replica_dsn="") for name, limits in configuration.pools.items()}

    assert decode_header(encode_header(configuration)) == replace(configuration, pools=pools)


def test_no_address_of_a_database_is_written_for_it_may_hold_a_password() -> None:
    limits = replace(CONFIGURATION.pools[PoolName.DASHBOARD], replica_dsn="postgres://me:secret@replica/db")

    assert "secret" not in encode_header(replace(CONFIGURATION, pools={PoolName.DASHBOARD: limits}))


def test_a_line_is_short_and_names_what_happened() -> None:
    request = AdmissionRequest("r1", "acme", PoolName.DASHBOARD, math.inf, Criticality.SHEDDABLE)
    entry = Entry(1.5, events.Offered(request), (Admitted("r1", PoolName.DASHBOARD, 0.0, 0.0, 8),))

    assert json.loads(encode(entry)) == {
        "at": 1.5,
        "event": "offer",
        "request": {
            "id": "r1",
            "tenant": "acme",
            "pool": "dashboard",
            "deadline_at": "inf",
            "criticality": 0,
        },
        "decisions": [
            {
                "decision": "admitted",
                "id": "r1",
                "pool": "dashboard",
                "wait": 0.0,
                "expected_wait": 0.0,
                "limit": 8,
            }
        ],
    }


CONFIGURATION = Configuration(
    {PoolName.DASHBOARD: PoolLimits(in_flight=1, queue=1, connections=1, workers=1)},
    seed=3,
    backends=(RecordedBackend("db", (PoolName.DASHBOARD,), BackendLimits(4, mode=LimitMode.SHADOW)),),
    tenants={"acme": TenantLimits(weight=2.0, in_flight=5)},
)


def fresh() -> Scheduler:
    """One seat, so that a second request waits and a third finds the queue full."""
    [backend] = CONFIGURATION.backends
    spec = BackendSpec(backend.name, backend.pools, backend.limits, StaticLimit(1))
    return Scheduler(CONFIGURATION.pools, CONFIGURATION.seed, [spec], CONFIGURATION.tenants)


def recorded() -> list[str]:
    """A core that is told everything once."""
    lines: list[str] = []
    core = RecordingCore(fresh(), CONFIGURATION, lines.append)
    for name in "abc":
        core.offer(AdmissionRequest(name, "acme", PoolName.DASHBOARD, 10.0), 0.0)
    core.finish("a", Outcome.SUCCESS, 0.5, 0.5)
    core.cancel("b", 0.75)
    core.tick(1.0)
    core.signal("db", Signal.RECOVERED, 1.0)
    core.signal("db", Pressure(active=3), 1.0)
    core.lease("db", None, 1.0)
    assert core.refusal(PoolName.DASHBOARD, "acme", 1.0) is None
    core.drain(2.0)
    return lines


def test_everything_that_a_core_is_told_is_written_with_what_it_decided() -> None:
    configuration, entries = read(recorded())
    found = list(entries)

    assert configuration == CONFIGURATION
    assert [type(entry.event) for entry in found] == [
        *[events.Offered] * 3, events.Finished, events.Cancelled, events.Ticked, events.Signalled, events.Pressed,
        events.Leased, events.Asked, events.Drained,
    ]  # fmt: skip
    assert [type(entry.decisions[0]) for entry in found[:4]] == [Admitted, Queued, Refused, Admitted]


def test_an_event_that_the_core_rejects_is_not_written() -> None:
    lines: list[str] = []
    core = RecordingCore(fresh(), CONFIGURATION, lines.append)

    with pytest.raises(KeyError):
        core.finish("unknown", Outcome.SUCCESS, 1.0, 1.0)

    assert len(lines) == 1


def test_what_is_asked_of_the_core_is_answered_by_it() -> None:
    inner = fresh()
    core = RecordingCore(inner, CONFIGURATION, lambda line: None)
    core.offer(AdmissionRequest("a", "acme", PoolName.DASHBOARD, 10.0), 0.0)
    core.offer(AdmissionRequest("b", "acme", PoolName.DASHBOARD, 10.0), 0.0)

    assert core.loads() == inner.loads()
    assert core.loads()[0].queue_length == 1
    assert core.state(1.0) == inner.state(1.0)
    assert core.backends() == inner.backends()
    assert core.next_wakeup() == inner.next_wakeup() is not None


@pytest.mark.parametrize("cut", [1, 9, 40])
def test_a_last_line_that_was_cut_off_is_left_out(cut: int) -> None:
    lines = recorded()
    whole = list(read(lines)[1])

    assert list(read([*lines[:-1], lines[-1][:-cut]])[1]) == (whole if cut == 1 else whole[:-1])


@pytest.mark.parametrize("line", ["", "id,name\n", "{}\n", "[]\n", "7\n", '{"log": "x"}\n'])
def test_a_foreign_file_is_refused_with_what_to_do(line: str) -> None:
    with pytest.raises(LogError, match=r"not a decision log.*server\.decision_log"):
        read([line])


def test_a_log_of_another_version_names_both() -> None:
    head = json.loads(recorded()[0]) | {"version": 9}

    with pytest.raises(LogError, match=r"querybroker\.decisions 9.*reads querybroker\.decisions 1"):
        read([json.dumps(head)])


def test_a_damaged_configuration_says_what_is_wrong() -> None:
    head = json.loads(recorded()[0])
    head["configuration"]["seed"] = "three"

    with pytest.raises(LogError, match="damaged: expected int, found 'three'"):
        read([json.dumps(head)])


@pytest.mark.parametrize(
    "line",
    [
        "x\n",
        "[]\n",
        "3\n",
        '{"at": 1}\n',
        '{"at":1,"event":"nap"}\n',
        '{"at":1,"event":"tick","x":1}\n',
        "head",
    ],
)
def test_damage_in_the_middle_is_named_by_its_line(line: str) -> None:
    head, *rest = recorded()
    damaged = [head, rest[0], head if line == "head" else line, *rest[1:]]

    with pytest.raises(LogError, match="Line 3 of the decision log is no event"):
        list(read(damaged)[1])
