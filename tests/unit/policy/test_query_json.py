"""What an answer holds is written as JSON and read again as it was."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from broker.domain.held import Content
from broker.domain.query import AbsoluteRange, AnyOf, Condition, Grain, Not, Operator
from broker.policy.query_json import decode, encode


def test_content_comes_back_as_it_was() -> None:
    content = Content(
        scope="scope",
        question="question",
        time="at",
        bounds=AbsoluteRange(datetime(2024, 3, 1, 5, tzinfo=UTC), datetime(2024, 4, 1, 4, tzinfo=UTC)),
        grain=Grain.DAY,
        zone="America/New_York",
        filter=(
            Condition("name", Operator.IN, ("a", "ü\x00")),
            Not(Condition("name", Operator.CONTAINS, ("x",))),
            AnyOf((
                Condition("price", Operator.GE, (Decimal("1.50"),)),
                Condition("born", Operator.LT, (date(2000, 1, 1),)),
                Condition("size", Operator.EQ, (float("inf"),)),
                Condition("given", Operator.EQ, (True,)),
            )),
        ),
        limit=7,
        whole=False,
        filled=True,
    )  # fmt: skip
    assert decode(json.loads(json.dumps(encode(content)))) == content
    assert decode(encode(Content("a", "b"))) == Content("a", "b")


@pytest.mark.parametrize(
    "broken", [{"is": "Contents"}, {"is": "Content", "scope": {"a": 1}}, {"is": "Content", "x": 1}]
)
def test_what_is_no_content_is_told(broken: object) -> None:
    with pytest.raises(ValueError, match="not a query"):
        decode(broken)
