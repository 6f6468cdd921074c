"""What a changed definition is, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from broker.domain.model import Dataset, Join, JoinKind, MeasureKind
from broker.domain.query import Grain, Operator
from broker.domain.rollup import Rollup, Storage, Tracking
from broker.domain.values import DataType
from broker.policy.rollups.definition import definition, joins, source_definition
from tests.support.rollup_scans import ROLLUP, dataset, day, is_

CITIES = Join("cities", "public.cities", "cities.id = rides.city", "rides")
LANDS = Join("lands", "public.lands", "lands.id = cities.land", "cities")
OTHERS = Join("others", "public.others", "others.id = rides.other", "rides")
KEPT = replace(ROLLUP, dimensions=("city",), measures=("fare",), filter=is_("kind", Operator.EQ, "bus"))


def known(*rollups: Rollup) -> Dataset:
    """Rides whose city is read over two joins; nothing reads the third one."""
    found = dataset(*rollups)
    city = replace(found.dimensions["city"], tables=("lands",))
    return replace(
        found,
        joins={"others": OTHERS, "lands": LANDS, "cities": CITIES, **found.joins},
        dimensions={**found.dimensions, "city": city},
    )


Members = Literal["joins", "dimensions", "measures"]


def changed(part: Members, name: str, **values: Any) -> Dataset:
    """The dataset with one of its members changed."""
    members: dict[str, Any] = {**getattr(known(), part)}
    changes: Any = {part: {**members, name: replace(members[name], **values)}}
    return replace(known(), **changes)


def test_the_joins_of_rollups_are_those_they_read_with_their_parents() -> None:
    assert joins(known(), [KEPT]) == (LANDS, CITIES)
    assert joins(known(), [replace(KEPT, dimensions=("kind",))]) == ()
    assert joins(known(), [replace(KEPT, dimensions=("kind",)), KEPT]) == (LANDS, CITIES)
    assert joins(known(), [replace(KEPT, dimensions=(), filter=is_("city", Operator.EQ, 1))]) == (
        LANDS,
        CITIES,
    )
    read = replace(known().measures["fare"], tables=("others",))
    by_measure = replace(known(), measures={"fare": read})
    assert joins(by_measure, [replace(KEPT, dimensions=())]) == (OTHERS,)


@pytest.mark.parametrize(
    "other",
    [
        replace(known(), table="public.trips"),
        replace(known(), primary_key=("id", "at")),
        changed("joins", "cities", on="cities.id = rides.town"),
        changed("joins", "lands", table="public.countries"),
        changed("joins", "lands", kind=JoinKind.ONE_TO_MANY),
        changed("dimensions", "at", stored_zone="Europe/Berlin"),
        changed("dimensions", "city", sql="lower(rides.city)"),
        changed("dimensions", "kind", sql="lower(rides.kind)"),
        changed("dimensions", "city", type=DataType.INT64),
        changed("dimensions", "city", scale=3),
        changed("measures", "fare", sql="rides.price"),
        changed("measures", "fare", kind=MeasureKind.AVG),
        changed("measures", "fare", type=DataType.DOUBLE),
        changed("measures", "fare", scale=4),
        changed("measures", "fare", filter="rides.paid"),
        changed("measures", "fare", percentile=0.9),
    ],
)  # fmt: skip
def test_what_decides_the_states_is_part_of_the_definition(other: Dataset) -> None:
    assert definition(other, KEPT) != definition(known(), KEPT)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEPT, time="billed"),
        replace(KEPT, dimensions=("city", "kind")),
        replace(KEPT, measures=("fare", "rides")),
        replace(KEPT, grains=(Grain.HOUR,)),
        replace(KEPT, zone="Europe/Berlin"),
        replace(KEPT, partition=Grain.WEEK),
        replace(KEPT, filter=None),
        replace(KEPT, storage=Storage.TABLE),
        replace(KEPT, tracking=Tracking.APPEND_ONLY),
        replace(KEPT, lateness=1.0),
        replace(KEPT, token="SELECT 1"),
        replace(KEPT, relation="public.stored"),
        replace(KEPT, columns={"at": "day"}),
    ],
)
def test_what_is_stored_is_part_of_the_definition(other: Rollup) -> None:
    assert definition(known(), other) != definition(known(), KEPT)


@pytest.mark.parametrize(
    ("other", "rollup"),
    [
        (changed("joins", "others", on="true"), KEPT),
        (changed("dimensions", "city", title="City"), KEPT),
        (changed("dimensions", "seats", sql="1"), KEPT),
        (changed("measures", "fare", unit="EUR"), KEPT),
        (changed("measures", "rides", filter="rides.paid"), KEPT),
        (known(KEPT), replace(KEPT, name="s", retention=9.0, refresh_every=1.0, start=day(1))),
    ],
)
def test_nothing_else_is(other: Dataset, rollup: Rollup) -> None:
    assert definition(other, rollup) == definition(known(), KEPT)


def test_marks_depend_on_the_time_the_table_and_the_joins() -> None:
    own = source_definition(known(), "at", [KEPT])
    changes = (
        replace(known(), table="public.trips"),
        changed("joins", "lands", on="true"),
        changed("dimensions", "at", sql="rides.began"),
        changed("dimensions", "at", type=DataType.DATE),
        changed("dimensions", "at", stored_zone="Europe/Berlin"),
    )
    assert len({own, *(source_definition(each, "at", [KEPT]) for each in changes)}) == 6
    assert source_definition(changed("measures", "fare", sql="1"), "at", [KEPT]) == own


@pytest.mark.parametrize("kind", [MeasureKind.FIRST, MeasureKind.LAST])
def test_the_order_of_rows_decides_the_first_and_the_last(kind: MeasureKind) -> None:
    def hashed(**values: Any) -> str:
        return definition(replace(changed("measures", "fare", kind=kind), **values), KEPT)

    began = replace(known().dimensions["billed"], sql="rides.began")
    assert hashed() not in {hashed(default_time="billed"), definition(known(), KEPT)}
    other = hashed(default_time="billed", dimensions={**known().dimensions, "billed": began})
    assert hashed(default_time="billed") != other
    assert hashed(dimensions={**known().dimensions, "billed": began}) == hashed()
    assert definition(replace(known(), default_time="billed"), KEPT) == definition(known(), KEPT)
