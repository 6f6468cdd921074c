"""Which spans the tables may no longer hold."""

from __future__ import annotations

from dataclasses import replace

from broker.domain.rollup import Coverage, Rule, Span
from broker.policy.rollups.seals import seals_of
from tests.support.rollup_scans import ROLLUP, dataset


def test_sealed_spans_are_those_of_all_rollups_by_their_time() -> None:
    known = dataset(*(replace(ROLLUP, name=name) for name in "abc"), replace(ROLLUP, name="d", time="billed"))
    one, two, three = Span(0, 10), Span(10, 20), Span(5, 15)
    coverage = [
        Coverage("b", (), sealed=(two,)),
        Coverage("a", (), sealed=(one, two), unusable=Rule.QUARANTINE),
        Coverage("c", ()),
        Coverage("d", (), sealed=(three,)),
        Coverage("dropped", (), sealed=(Span(90, 99),)),
    ]
    assert seals_of(known, coverage) == {"at": (one, two), "billed": (three,)}
    assert seals_of(known, coverage[2:3]) == {}
