"""Filters that follow from others, against every row of a small world in three-valued logic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import combinations, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.query import AllOf, AnyOf, Condition, Filter, Not, Operator
from broker.domain.values import Scalar
from broker.policy.rollups.implication import holds, implies
from broker.policy.rollups.normal import conjuncts, joined
from tests.support.rollup_scans import is_

Op = Operator
X = is_("c", Op.EQ, "x")
NUMBERS: tuple[Scalar | None, ...] = (None, 0, 1, 2, 3, 4)
TEXTS: tuple[Scalar | None, ...] = (None, "", "a", "ab", "abc", "b", "ba")
LISTS = (Op.IN, Op.NOT_IN)
SEARCHES = (Op.CONTAINS, Op.STARTS_WITH, Op.ENDS_WITH)
ORDERS = (Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE)


def truth(node: Filter, row: dict[str, Scalar | None]) -> bool | None:
    """The value of a filter for a row; None is unknown."""
    match node:
        case AllOf(children):
            found = [truth(child, row) for child in children]
            return False if False in found else None if None in found else True
        case AnyOf(children):
            found = [truth(child, row) for child in children]
            return True if True in found else None if None in found else False
        case Not(child):
            inner = truth(child, row)
            return None if inner is None else not inner
        case Condition(member, operator, values):
            return _condition(row[member], operator, values)


def _condition(value: Scalar | None, operator: Operator, values: tuple[Scalar, ...]) -> bool | None:
    if operator in (Op.IS_NULL, Op.IS_NOT_NULL):
        return (value is None) is (operator is Op.IS_NULL)
    if operator in LISTS and not values:
        return operator is Op.NOT_IN  # of an empty array, whatever the value
    if value is None:
        return None
    if operator in LISTS:
        return (value in values) is (operator is Op.IN)
    if isinstance(value, str):
        texts = [str(each) for each in values]
        return _compared(value, operator, texts)
    assert isinstance(value, int)
    return _compared(value, operator, [int(str(each)) for each in values])


def _compared(value: int | str, operator: Operator, values: list[str] | list[int]) -> bool:
    first = values[0]
    tests: dict[Operator, Callable[[], object]] = {
        Op.EQ: lambda: value == first,
        Op.NE: lambda: value != first,
        Op.LT: lambda: value < first,  # type: ignore[operator] # of one type
        Op.LE: lambda: value <= first,  # type: ignore[operator] # of one type
        Op.GT: lambda: value > first,  # type: ignore[operator] # of one type
        Op.GE: lambda: value >= first,  # type: ignore[operator] # of one type
        Op.BETWEEN: lambda: first <= value < values[1],  # type: ignore[operator] # of one type
        Op.CONTAINS: lambda: str(first) in str(value),
        Op.STARTS_WITH: lambda: str(value).startswith(str(first)),
        Op.ENDS_WITH: lambda: str(value).endswith(str(first)),
    }
    return bool(tests[operator]())


def _leaf(
    member: str, world: tuple[Scalar | None, ...], operators: tuple[Operator, ...]
) -> st.SearchStrategy[Filter]:
    values = st.sampled_from([value for value in world if value is not None])
    return st.one_of(
        st.builds(lambda o, v: Condition(member, o, (v,)), st.sampled_from(operators), values),
        st.builds(
            lambda o, v: Condition(member, o, tuple(v)), st.sampled_from(LISTS), st.lists(values, max_size=3)
        ),
        st.builds(lambda v: Condition(member, Op.BETWEEN, tuple(sorted(v))), st.tuples(values, values)),
        st.builds(lambda o: Condition(member, o, ()), st.sampled_from((Op.IS_NULL, Op.IS_NOT_NULL))),
    )


leaves = _leaf("n", NUMBERS, ORDERS) | _leaf("t", TEXTS, (*ORDERS, *SEARCHES))
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda f: AllOf(tuple(f)), st.lists(inner, max_size=3)),
        st.builds(lambda f: AnyOf(tuple(f)), st.lists(inner, max_size=3)),
    ),
    max_leaves=5,
)
ROWS = [{"n": n, "t": t} for n, t in product(NUMBERS, TEXTS)]


@settings(max_examples=400, deadline=None)
@given(filters)
def test_the_normal_form_has_the_same_value_for_every_row(node: Filter) -> None:
    again = joined(conjuncts(node)) or AllOf(())
    for row in ROWS:
        assert truth(again, row) is truth(node, row)


@settings(max_examples=1500, deadline=None)
@given(filters, filters)
def test_what_follows_is_true_wherever_the_other_is(left: Filter, right: Filter) -> None:
    if implies(conjuncts(left), conjuncts(right)):
        for row in ROWS:
            assert truth(left, row) is not True or truth(right, row) is True


EVENS = (0, 2, 4, 6)
GAPS: tuple[Scalar | None, ...] = (None, *range(-1, 8))
"""Of every comparison with even numbers: the numbers themselves, between them, and beyond."""
WORDS = ("a", "b", "ab", "ba", "aab")
AROUND: tuple[Scalar | None, ...] = (
    None,
    *dict.fromkeys(left + word + right for word in WORDS for left in ("", "z") for right in ("", "z")),
)
"""Of every search for the words: a word alone, with something before, after, and around it."""


def every(values: Sequence[Scalar], operators: tuple[Operator, ...]) -> list[Condition]:
    """Every condition on one member that compares with one value, and with pairs of them."""
    pairs = list(combinations(values, 2))
    return [
        *(is_("m", operator, value) for operator in operators for value in values),
        *(is_("m", operator, *pair) for operator in LISTS for pair in pairs),
        *(is_("m", operator) for operator in (Op.IS_NULL, Op.IS_NOT_NULL)),
    ]


def true_for(node: Filter, world: tuple[Scalar | None, ...]) -> frozenset[int]:
    return frozenset(i for i, value in enumerate(world) if truth(node, {"m": value}))


NUMERIC = [*every(EVENS, ORDERS), *(is_("m", Op.BETWEEN, *pair) for pair in combinations(EVENS, 2))]
TEXTUAL = every(WORDS, (Op.EQ, Op.NE, *SEARCHES))


@pytest.mark.parametrize(("world", "nodes"), [(GAPS, NUMERIC), (AROUND, TEXTUAL)], ids=["numbers", "texts"])
def test_of_single_conditions_nothing_is_missed(
    world: tuple[Scalar | None, ...], nodes: list[Condition]
) -> None:
    """Nothing but what a search says of texts that it leaves out: those without what is searched for."""
    known = [(node, conjuncts(node), true_for(node, world)) for node in nodes]
    for (left, parts, rows), (right, goal, wanted) in product(known, known):
        missed = left.operator in SEARCHES and right.operator in (Op.NE, Op.NOT_IN)
        assert implies(parts, goal) is (rows <= wanted and not missed), (left, right)


@pytest.mark.parametrize(("world", "nodes"), [(GAPS, NUMERIC), (AROUND, TEXTUAL)], ids=["numbers", "texts"])
def test_a_condition_holds_for_the_values_for_which_it_is_true(
    world: tuple[Scalar | None, ...], nodes: list[Condition]
) -> None:
    for node, value in product(nodes, world):
        if value is not None and node.operator is not Op.BETWEEN:  # of which the normal form knows nothing
            assert holds(node, value) is truth(node, {"m": value})


def test_of_two_conditions_nothing_wrong_follows_and_nothing_is_missed_of_lists_and_ranges() -> None:
    nodes = [node for node in NUMERIC if 6 not in node.values]
    known = [(node, conjuncts(node), true_for(node, GAPS)) for node in nodes]
    for (one, first, these), (other, second, those) in combinations(known, 2):
        rows, parts, operators = these & those, (*first, *second), {one.operator, other.operator}
        listed, ranges = operators & {Op.EQ, Op.IN}, not operators & {Op.NE, Op.NOT_IN} and len(rows) > 1
        for right, goal, wanted in known:
            missed = not rows or not (listed or ranges)
            follows = rows <= wanted
            assert implies(parts, goal) in ((follows, False) if missed else (follows,)), (one, other, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((is_("c", Op.EQ, "DE"),), (is_("c", Op.IN, "DE", "FR"),)),
        ((is_("c", Op.IN, "DE", "FR"),), (AnyOf((is_("c", Op.EQ, "FR"), is_("c", Op.EQ, "DE"))),)),
        ((AnyOf((is_("c", Op.EQ, "FR"), is_("c", Op.EQ, "DE"))),), (is_("c", Op.IN, "FR", "DE", "IT"),)),
        ((is_("n", Op.BETWEEN, 2, 4),), (is_("n", Op.GE, 1), is_("n", Op.LT, 4))),
        ((is_("n", Op.GT, 2), is_("n", Op.LE, 4)), (is_("n", Op.NE, 2), is_("n", Op.NOT_IN, 1, 5))),
        ((is_("t", Op.STARTS_WITH, "abc"),), (is_("t", Op.CONTAINS, "bc"), is_("t", Op.IS_NOT_NULL))),
        ((AnyOf((is_("n", Op.LT, 1), is_("n", Op.GT, 3))),), (is_("n", Op.NE, 2),)),
        ((AnyOf((AllOf((is_("n", Op.EQ, 1), X)), is_("c", Op.EQ, "y"))),), (is_("c", Op.IN, "x", "y"),)),
        ((Not(is_("t", Op.CONTAINS, "a")),), (is_("t", Op.IS_NOT_NULL),)),
        ((Not(is_("t", Op.CONTAINS, "a")),), (Not(is_("t", Op.CONTAINS, "a")),)),
        ((is_("n", Op.IN),), (X,)),
    ],
)  # fmt: skip
def test_follows(left: tuple[Filter, ...], right: tuple[Filter, ...]) -> None:
    assert implies(conjuncts(AllOf(left)), conjuncts(AllOf(right)))


def test_numbers_of_different_types_are_compared() -> None:
    assert implies((is_("n", Op.EQ, 2),), (is_("n", Op.LT, 2.5), is_("n", Op.GT, Decimal("1.5"))))
    assert implies((is_("n", Op.GE, Decimal(2)),), (is_("n", Op.GE, 2), is_("n", Op.GT, 1.0)))
    assert not implies((is_("n", Op.EQ, 2.0),), (is_("n", Op.LT, Decimal(2)),))


def test_different_types_and_not_a_number_prove_nothing() -> None:
    assert not implies(conjuncts(is_("n", Op.EQ, "2")), conjuncts(is_("n", Op.GT, 1)))
    assert not implies(conjuncts(is_("n", Op.GT, float("nan"))), conjuncts(is_("n", Op.GT, 1.0)))
    assert not implies(conjuncts(is_("n", Op.EQ, True)), conjuncts(is_("n", Op.GE, 1)))
    assert not implies(conjuncts(is_("n", Op.EQ, "2")), conjuncts(is_("n", Op.NE, 2)))
    assert not implies(conjuncts(is_("n", Op.CONTAINS, "2")), conjuncts(is_("n", Op.EQ, 2)))
    assert not implies(conjuncts(is_("n", Op.IN, 1, "2")), conjuncts(is_("n", Op.NOT_IN, 2, 3)))


@pytest.mark.parametrize(
    ("count", "goals", "found"), [(64, 1, True), (65, 1, False), (32, 2, True), (33, 2, False)]
)
def test_so_many_alternatives_are_tried_for_all_goals_together(count: int, goals: int, found: bool) -> None:
    choice = AnyOf(tuple(AllOf((is_("n", Op.EQ, i), X)) for i in range(count)))
    assert implies((choice,), [X] * goals) is found


def test_alternatives_are_tried_with_everything_else_that_is_given() -> None:
    numbers, others = (is_("n", Op.EQ, 1), is_("n", Op.EQ, 2)), (X, is_("d", Op.EQ, "y"))
    goal = AnyOf(tuple(AllOf((number, *others)) for number in numbers))
    parts: tuple[Filter, ...] = AnyOf(numbers), *others
    for order in permutations(parts):
        assert implies(order, (goal,))


def test_one_alternative_that_follows_is_enough() -> None:
    goal = AnyOf((X, is_("n", Op.GE, 1)))
    assert implies((is_("n", Op.GE, 2),), (goal,))
    assert not implies((is_("n", Op.GE, 0),), (goal,))


def test_it_gives_up_when_there_are_too_many_cases() -> None:
    many = tuple(AnyOf((is_(f"a{i}", Op.EQ, 1), is_(f"b{i}", Op.EQ, 1))) for i in range(40))
    assert not implies(conjuncts(AllOf(many)), conjuncts(is_("c", Op.EQ, 1)))
