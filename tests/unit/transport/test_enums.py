"""Every enumeration of the domain has its counterpart in the contract, in both directions."""

from __future__ import annotations

from enum import Enum

from broker.domain.job import JobStage
from broker.domain.values import ColumnRole
from broker.transport import enums

PAIRS = {name: value for name, value in vars(enums).items() if isinstance(value, enums.EnumPair)}
UNSET = {"COLUMN_ROLE": [ColumnRole.SQL], "JOB_STAGE": [JobStage.NONE]}


def test_only_members_that_mean_not_set_have_no_number() -> None:
    assert len(PAIRS) >= 20
    for name, pair in PAIRS.items():
        members: list[Enum] = list(type(next(iter(pair.to_proto))))  # type: ignore[call-overload] # the pairs' types differ
        assert [m for m in members if m not in pair.to_proto] == UNSET.get(name, [])
        assert {number: member for member, number in pair.to_proto.items()} == pair.to_domain
        assert 0 not in pair.to_domain
