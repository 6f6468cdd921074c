"""Mistakes that are made on purpose: each is one, and none is made where only people read."""

import ast

import pytest

from tests.mutation.mutants import mutants


def changed(source: str) -> list[tuple[str, str]]:
    return [(mutant.before, mutant.after) for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b <= c", ["a <= b <= c", "a < b < c"]),
        ("a is not None", ["a is None"]),
        ("a + b", ["a - b"]),
        ("a *= b", ["a /= b"]),
        ("a and b", ["a or b"]),
        ("a if b else c", ["a if not b else c"]),
        ("not a", ["not not a"]),
        ("-a", ["+a"]),
        ("a = 1.5", ["2.5"]),
        ("a = True", ["False"]),
        ("a = min(b)", ["max"]),
        ("f(a)", ["None"]),
        ("for a in b:\n    break", ["continue"]),
    ],
)
def test_small_mistakes(source: str, expected: list[str]) -> None:
    assert [after for _, after in changed(source)] == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Text."""',
        "LIMIT = 5",
        "LIMIT: int",
        "__slots__ = ('a',)",
        "def f(a: list[1]) -> tuple[2]: pass",
        "a = 'b'",
    ],
)
def test_what_only_people_read_and_settings_stay(source: str) -> None:
    assert changed(source) == []


def test_every_mutant_differs_in_one_place_and_knows_its_line() -> None:
    source = "a = b + c\nif a > 1:\n    d(a)\n"
    found = list(mutants(source))
    assert [mutant.line for mutant in found] == [1, 2, 2, 2, 3]
    lines = source.splitlines()
    for mutant in found:
        other = ast.unparse(mutant.tree).splitlines()
        assert sum(before != after for before, after in zip(lines, other, strict=True)) == 1
