"""Kernels against a plain reference: any query of any facts, cut into any blocks."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.aggregation import kernels
from broker.domain.query import Query
from tests.unit.aggregation import questions, reference
from tests.unit.aggregation.facts import Fact, facts, plan
from tests.unit.aggregation.source import results

SEEDS = st.integers(0, 2**32).map(Random)


@settings(max_examples=600, deadline=None)
@given(
    query=SEEDS.map(questions.query),
    rows=SEEDS.map(facts),
    parts=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    csv=st.booleans(),
)
def test_any_query_of_any_facts_cut_into_any_blocks(
    query: Query, rows: list[Fact], parts: list[int], csv: bool
) -> None:
    resolved = plan(query)
    finish = replace(
        resolved.finish, pushed_down=False
    )  # the facts' source groups, and leaves the rest to us
    found = kernels.answer(results(resolved, rows, parts, csv=csv), finish).rows()
    expected = reference.answer(resolved, rows)
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert all(map(reference.same, mine, theirs)), (mine, theirs)
