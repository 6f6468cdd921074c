"""Every rule that needs no coverage, accepted and rejected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import permutations

import pytest

from broker.domain.plan import Scan
from broker.domain.principal import Principal
from broker.domain.query import AllOf, AnyOf, Filter, Grain, Not, Operator
from broker.domain.rollup import ALWAYS, FAR_FUTURE, Rollup, Rule, Span, Storage, Tracking, micros
from broker.domain.terms import Consistency
from broker.policy.rollups.asked import asked_of, policy_conditions
from broker.policy.rollups.candidates import Candidates
from broker.policy.rollups.normal import members
from tests.support.rollup_scans import (
    OWN_CITY,
    OWN_TENANT,
    ROLLUP,
    UNSAYABLE,
    dataset,
    day,
    failed,
    is_,
    scan,
)

Op = Operator
GERMAN = replace(ROLLUP, filter=is_("city", Op.IN, "Berlin", "Bonn"), dimensions=("kind", "tenant"))
LATE = replace(ROLLUP, filter=is_("at", Op.GE, day(5)))
EARLY = replace(ROLLUP, filter=is_("at", Op.LT, day(9)))
HOURLY = replace(ROLLUP, grains=(Grain.HOUR,))
DAILY = replace(ROLLUP, grains=(Grain.DAY,), zone="Europe/Berlin")
OF_ACME = replace(ROLLUP, filter=is_("tenant", Op.EQ, "acme"))
BY_KIND = replace(ROLLUP, dimensions=("kind",))
LONGEST = replace(ROLLUP, dimensions=("tag",), measures=("longest",))
BERLIN = is_("city", Op.EQ, "Berlin")


def of(city: str) -> Principal:
    return Principal("bob", "acme", attributes={"city": city})


Case = tuple[Scan, Rollup, set[Rule]]
CASES: dict[str, Case] = {
    "keys stored": (scan(by=("city", "kind")), ROLLUP, set()),
    "a key is missing": (scan(by=("city", "seats")), ROLLUP, {Rule.KEYS}),
    "filtered by what is missing": (scan(where=is_("seats", Op.GT, 2)), ROLLUP, {Rule.KEYS}),
    "grouped by the time itself": (scan(by=("at",)), ROLLUP, {Rule.KEYS}),
    "no keys at all": (scan(by=()), ROLLUP, set()),
    "every operator": (scan(where=Not(AnyOf((is_("city", Op.CONTAINS, "B"), is_("kind", Op.IS_NULL))))), ROLLUP, set()),
    "filter narrower than that of the rollup": (scan(by=("kind",), where=BERLIN), GERMAN, {Rule.KEYS}),
    "filter equal": (scan(by=("kind",), where=is_("city", Op.IN, "Bonn", "Berlin")), GERMAN, set()),
    "filter not implied": (scan(by=("kind",)), GERMAN, {Rule.FILT}),
    "filter wider": (scan(by=("kind",), where=is_("city", Op.IN, "Bonn", "Berlin", "Rome")), GERMAN, {Rule.FILT}),
    "filter by bounds": (scan(bounds=(day(5), day(9))), LATE, set()),
    "bounds wider": (scan(), LATE, {Rule.FILT}),
    "filter by the end": (scan(bounds=(day(5), day(9))), EARLY, set()),
    "an end that is later": (scan(bounds=(day(5), day(10))), EARLY, {Rule.FILT}),
    "filter by policy": (scan(by=("kind",), policies=(OWN_TENANT,)), OF_ACME, set()),
    "time bound in a choice": (scan(where=AnyOf((is_("at", Op.LT, day(3)), BERLIN))), ROLLUP, {Rule.FILT}),
    "one instant left out": (scan(where=is_("at", Op.NE, day(3))), ROLLUP, {Rule.FILT}),
    "time bounds in the filter": (scan(where=AllOf((is_("at", Op.LT, day(9)), BERLIN))), ROLLUP, set()),
    "policy stored": (scan(policies=(OWN_TENANT,)), ROLLUP, set()),
    "policy on what is missing": (scan(by=("kind",), policies=(OWN_CITY,), principal=of("Rome")), BY_KIND, {Rule.SEC}),
    "policy of another form": (scan(policies=(UNSAYABLE,)), ROLLUP, {Rule.SEC}),
    "an attribute is missing": (scan(policies=(OWN_CITY,)), ROLLUP, {Rule.SEC}),
    "an attribute that PostgreSQL refuses": (scan(policies=(OWN_CITY,), principal=of("\x00")), ROLLUP, {Rule.SEC}),
    "another time": (scan(time="billed"), ROLLUP, {Rule.TIME}),
    "no time": (scan(time="", bounds=None), ROLLUP, set()),
    "a time that restricts nothing": (scan(time="billed", bounds=None), ROLLUP, set()),
    "time is null": (scan(bounds=None, where=is_("at", Op.IS_NULL)), ROLLUP, {Rule.NULL}),
    "time is not null": (scan(bounds=None, where=is_("at", Op.IS_NOT_NULL)), ROLLUP, set()),
    "buckets fit": (scan(grain=Grain.DAY, zone="Asia/Kathmandu"), ROLLUP, set()),
    "hours in hours": (scan(grain=Grain.HOUR, zone="Europe/Berlin"), HOURLY, set()),
    "quarters of hours in hours": (scan(grain=Grain.FIFTEEN_MINUTES), HOURLY, {Rule.GRAIN}),
    "days of another zone in hours": (scan(grain=Grain.DAY, zone="Asia/Kathmandu"), HOURLY, {Rule.TZ}),
    "months of the same zone in days": (scan(grain=Grain.MONTH, zone="Europe/Berlin"), DAILY, set()),
    "days of another zone in days": (scan(grain=Grain.DAY, zone="UTC"), DAILY, {Rule.TZ}),
    "hours in days": (scan(grain=Grain.HOUR, zone="Europe/Berlin"), DAILY, {Rule.GRAIN}),
    "one bucket of any zone": (scan(grain=Grain.MONTH, zone="UTC", bounds=(day(3), day(9))), DAILY, set()),
    "unaligned ends": (scan(bounds=(day(1, 0, 7), day(9, 5, 1))), ROLLUP, set()),
    "ends only": (scan(bounds=(day(1, 0, 7), day(1, 0, 29))), ROLLUP, {Rule.EDGE}),
    "nothing asked for": (scan(where=AllOf((is_("at", Op.LT, day(3)), is_("at", Op.GT, day(4))))), ROLLUP, {Rule.EDGE}),
    "measures stored": (scan(measures=("fare", "riders")), ROLLUP, set()),
    "no measures": (scan(measures=()), ROLLUP, set()),
    "a measure is missing": (scan(measures=("rides", "longest")), ROLLUP, {Rule.ALG}),
    "a measure does not merge": (scan(measures=("all_riders",)), replace(ROLLUP, measures=("all_riders",)), {Rule.ALG}),
    "a sketch in a table": (scan(measures=("riders",)), replace(ROLLUP, storage=Storage.TABLE), {Rule.ALG}),
    "multiplied measures": (scan(by=("tag",)), replace(ROLLUP, dimensions=("tag",)), {Rule.JOIN}),
    "multiplied, but it does not matter": (scan(by=("tag",), measures=("longest",)), LONGEST, set()),
    "several at once": (scan(by=("seats",), measures=("longest",)), LATE, {Rule.KEYS, Rule.ALG, Rule.FILT}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rules(name: str) -> None:
    asked, rollup, expected = CASES[name]
    assert failed(asked, rollup) == expected


def test_every_rule_of_shape_and_values_is_rejected_by_a_case() -> None:
    seen = {rule for _, _, rules in CASES.values() for rule in rules}
    coverage = {Rule.DEF, Rule.COVER, Rule.LOG, Rule.SEAL, Rule.STALE, Rule.QUARANTINE, Rule.COST}
    assert seen == {*Rule} - coverage - {Rule.XSTORE, Rule.NOTRIG}


@pytest.mark.parametrize(
    ("tracking", "storage", "expected"),
    [
        (Tracking.TRIGGERS, Storage.SEGMENTS, set()),
        (Tracking.CHANGE_TOKEN, Storage.TABLE, set()),
        (Tracking.APPEND_ONLY, Storage.SEGMENTS, {Rule.NOTRIG}),
        (Tracking.CHANGE_TOKEN, Storage.EXTERNAL, {Rule.XSTORE}),
        (Tracking.NONE, Storage.EXTERNAL, {Rule.XSTORE, Rule.NOTRIG}),
    ],
)
def test_a_snapshot_takes_rollups_that_are_exact_in_it(
    tracking: Tracking, storage: Storage, expected: set[Rule]
) -> None:
    rollup = replace(ROLLUP, tracking=tracking, storage=storage)
    assert failed(scan(), rollup, Consistency.SNAPSHOT) == expected
    assert failed(scan(), rollup, Consistency.BOUNDED) == set()


def test_the_order_of_conditions_changes_nothing() -> None:
    parts: list[Filter] = [
        BERLIN,
        is_("kind", Op.NE, "bus"),
        is_("at", Op.GE, day(4)),
        AnyOf((is_("kind", Op.EQ, "car"), is_("kind", Op.EQ, "bike"))),
    ]
    rollup = replace(ROLLUP, filter=is_("city", Op.EQ, "Berlin"))
    candidates = Candidates(dataset(rollup))
    found = set()
    for order in permutations(parts):
        checked = candidates.check(replace(scan(where=AllOf(order)), dataset=candidates.dataset))
        (accepted,) = checked.accepted
        left = checked.filter(accepted)
        assert isinstance(left, AllOf)
        found.add((checked.asked("at").span, frozenset(left.filters)))
    ((span, left_over),) = found
    assert span == Span(micros(day(4)), micros(day(20)))
    assert left_over == {is_("kind", Op.NE, "bus"), is_("kind", Op.IN, "bike", "car")}


def test_stored_rows_are_filtered_by_what_the_rollup_does_not_say_and_by_policies() -> None:
    candidates = Candidates(dataset(GERMAN, replace(ROLLUP, name="s")))
    asked = scan(by=("kind",), where=is_("city", Op.IN, "Bonn", "Berlin"), policies=(OWN_TENANT,))
    checked = candidates.check(asked)
    german, other = checked.accepted
    tenant = is_("tenant", Op.EQ, "acme")
    assert checked.filter(german) == tenant
    assert checked.filter(other) == AllOf((is_("city", Op.IN, "Berlin", "Bonn"), tenant))
    assert candidates.check(scan()).filter(other) is None


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ((is_("at", Op.GT, day(3)), is_("at", Op.LE, day(4))), (micros(day(3)) + 1, micros(day(4)) + 1)),
        ((is_("at", Op.BETWEEN, day(3), day(4)),), (micros(day(3)), micros(day(4)))),
        ((is_("at", Op.EQ, day(3)),), (micros(day(3)), micros(day(3)) + 1)),
        ((Not(is_("at", Op.LT, day(3))),), (micros(day(3)), FAR_FUTURE)),
        ((is_("at", Op.IS_NOT_NULL),), ALWAYS),
    ],
)
def test_conditions_on_the_time_are_bounds(where: Sequence[Filter], expected: tuple[int, int]) -> None:
    asked = scan(bounds=None, where=AllOf(tuple(where)))
    assert Candidates(dataset(ROLLUP)).check(asked).asked("at").span == expected


def test_conditions_on_a_date_are_midnights() -> None:
    rollup = replace(ROLLUP, time="billed", grains=(Grain.DAY,))
    where = AllOf((is_("billed", Op.GT, date(2024, 3, 3)), is_("billed", Op.LE, date(2024, 3, 5))))
    checked = Candidates(dataset(rollup)).check(scan(time="", bounds=None, where=where))
    assert checked.accepted == (rollup,)
    assert checked.asked("billed").span == (micros(day(4)), micros(day(6)))


def test_a_zone_whose_offset_changes_fits_only_while_it_does() -> None:
    """Lord Howe is eleven hours ahead of UTC in its summer, ten and a half in its winter."""
    summer = (datetime(2023, 11, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC))
    winter = tuple(each + timedelta(days=200) for each in summer)
    zone = "Australia/Lord_Howe"
    assert failed(scan(bounds=summer, grain=Grain.DAY, zone=zone), HOURLY) == set()
    assert failed(scan(bounds=(winter[0], winter[1]), grain=Grain.DAY, zone=zone), HOURLY) == {Rule.TZ}
    assert failed(scan(bounds=(winter[0], winter[1]), grain=Grain.DAY, zone=zone), ROLLUP) == set()


def test_what_is_remembered_of_a_shape_does_not_reach_into_another_question() -> None:
    candidates = Candidates(dataset(GERMAN), remembered=1)
    asked = scan(by=("kind",), where=is_("city", Op.IN, "Bonn", "Berlin"))
    for _ in range(2):
        assert candidates.check(asked).accepted == (GERMAN,)
        assert candidates.check(scan(by=("kind",))).accepted == ()
        assert candidates.check(scan(by=("city",))).accepted == ()


def test_row_policies_are_equalities_with_values_of_the_principal() -> None:
    terms = (("tenant", "tenant"), ("city", "attributes.city"), ("kind", "principal"), ("tenant", "tenant"))
    policy = replace(OWN_TENANT, terms=terms)
    equal = [
        is_(name, Op.EQ, value) for name, value in (("tenant", "acme"), ("city", "Rome"), ("kind", "bob"))
    ]
    assert policy_conditions(scan(policies=(policy, OWN_TENANT), principal=of("Rome"))) == tuple(equal)
    assert policy_conditions(scan()) == ()


@pytest.mark.parametrize(
    ("city", "found"),
    [("", True), ("\ud7ff\ue000\U0010ffff", True), ("a\x00", False), ("a\ud800", False), ("\udfffa", False)],
)
def test_texts_that_postgresql_refuses_are_left_to_the_tables(city: str, found: bool) -> None:
    own = policy_conditions(scan(policies=(OWN_CITY,), principal=of(city)))
    assert own == ((is_("city", Op.EQ, city),) if found else None)


def test_a_policy_on_what_is_no_text_is_left_to_the_tables() -> None:
    assert policy_conditions(scan(policies=(replace(OWN_TENANT, terms=(("seats", "tenant"),)),))) is None


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([is_("at", Op.GE, date(2024, 3, 3))], Rule.FILT),
        ([is_("at", Op.IN, day(3), day(4))], Rule.FILT),
        ([is_("billed", Op.GE, day(3))], Rule.FILT),
        ([is_("billed", Op.LE, date.max)], Rule.FILT),
        ([is_("at", Op.LE, datetime.max.replace(tzinfo=UTC))], Rule.FILT),
        ([is_("at", Op.GE, datetime.max.replace(tzinfo=UTC))], None),
        ([is_("at", Op.GT, datetime.max.replace(tzinfo=UTC, microsecond=999_998))], None),
        ([is_("at", Op.IS_NULL), is_("at", Op.NE, day(3))], Rule.NULL),
        ([is_("at", Op.NE, day(3)), is_("at", Op.IS_NULL)], Rule.NULL),
        ([is_("at", Op.NE, day(3)), is_("at", Op.GE, day(3))], Rule.FILT),
        ([is_("city", Op.IS_NULL), is_("at", Op.GE, day(3))], None),
    ],
)
def test_conditions_on_the_time_that_are_no_range_are_left_to_the_tables(
    parts: Sequence[Filter], problem: Rule | None
) -> None:
    (time,) = {name for part in parts for name in members(part)} - {"city"}
    asked = asked_of(scan(bounds=None), scan().dataset.dimensions[time], parts, ())
    assert asked.problem is problem
    assert not asked.nulls
    assert asked.rest == tuple(part for part in parts if "city" in members(part))


def test_rows_without_a_time_are_asked_for_where_nothing_is_said_of_it() -> None:
    time = scan().dataset.dimensions["at"]
    for asked, nulls in ((scan(bounds=None), True), (scan(time="billed"), True), (scan(), False)):
        assert asked_of(asked, time, [BERLIN], ()).nulls is nulls


def test_what_a_kind_of_rollup_may_answer() -> None:
    candidates = Candidates(
        dataset(ROLLUP, replace(HOURLY, name="h"), replace(HOURLY, name="i", measures=()))
    )
    for like, among, found in (
        (ROLLUP, None, True),
        (ROLLUP, {"r"}, True),
        (ROLLUP, {"h"}, False),
        (HOURLY, {"h"}, True),
        (HOURLY, {"i"}, False),
        (DAILY, None, False),
    ):
        assert candidates.accepts(scan(), Consistency.BOUNDED, like, among) is found
    assert {each.base for each in candidates.bases} == {ROLLUP.base, HOURLY.base}


def test_the_shapes_that_were_asked_last_are_remembered() -> None:
    candidates = Candidates(dataset(ROLLUP), remembered=2)
    one, two, three = scan(by=()), scan(by=("city",)), scan(by=("kind",))
    known = [candidates._shape(each, Consistency.BOUNDED) for each in (one, two)]
    for asked in (one, three):
        candidates.check(asked)
    assert candidates._shape(one, Consistency.BOUNDED) is known[0]
    assert len(candidates._shapes) == 2
    assert candidates._shape(two, Consistency.BOUNDED) is not known[1]


@pytest.mark.parametrize(
    ("asked", "rollup", "detail"),
    [
        (scan(by=("seats", "city", "tag")), replace(LONGEST, measures=("rides",)), "does not store 'city', 'seats'"),
        (scan(where=is_("seats", Op.GT, 2)), ROLLUP, "does not store 'seats'"),
        (scan(measures=("longest", "rides")), ROLLUP, "has no states of 'longest'"),
        (scan(measures=("all_riders",)), replace(ROLLUP, measures=("all_riders",)), "its states do not merge"),
        (scan(time="billed"), ROLLUP, "is kept by 'at'"),
        (scan(by=("seats",), measures=("longest",)), ROLLUP, "does not store 'seats'; has no states of 'longest'"),
        (scan(), LATE, ""),
    ],
)  # fmt: skip
def test_reasons_are_told_by_name(asked: Scan, rollup: Rollup, detail: str) -> None:
    (found,) = Candidates(dataset(rollup)).check(asked).rejected
    assert found.detail == detail
