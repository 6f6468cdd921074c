"""Values with some of their fields changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from broker.domain.change import Change


@dataclass(frozen=True, slots=True)
class Plain:
    a: int
    b: str
    c: tuple[int, ...] = ()


def test_a_change_is_what_replace_does_whatever_the_order_of_the_names() -> None:
    row = Plain(1, "b", (2,))
    assert Change(Plain, "c", "a")(row, (3, 4), 5) == replace(row, a=5, c=(3, 4)) == Plain(5, "b", (3, 4))
    assert Change(Plain, "b")(row, "other") == replace(row, b="other")
    assert row == Plain(1, "b", (2,))


def test_a_field_that_there_is_not_is_found_when_the_change_is_made() -> None:
    with pytest.raises(ValueError, match=r"Plain has no fields \['d', 'e'\]"):
        Change(Plain, "a", "e", "d")


def test_so_many_values_are_given_as_there_are_names() -> None:
    with pytest.raises(TypeError):
        Change(Plain, "a", "b")(Plain(1, "b"), 2)
