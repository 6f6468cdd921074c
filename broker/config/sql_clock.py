"""What in an expression depends on the time at which it is computed, beside the functions that are known by name."""

from __future__ import annotations

import re

from sqlglot import exp

_WORDS = frozenset({"now", "today", "tomorrow", "yesterday"})
"""Texts that PostgreSQL reads as a time that moves, where it expects a date or a time; hours may stand beside them."""
_BESIDE = re.compile(r"[\d:.+-]+|[ap]m|z|utc|gmt")
_TEXTS = (exp.Literal, exp.ByteString, exp.RawString, exp.UnicodeString, exp.National)
_TIMES = frozenset({*exp.DataType.TEMPORAL_TYPES, exp.DataType.Type.TIME, exp.DataType.Type.TIMETZ})
_OF_TEXT = (exp.Like, exp.ILike, exp.SimilarTo, exp.RegexpLike, exp.RegexpILike, exp.DPipe)
"""Operators whose sides are texts whatever they say."""


def clock_problem(tree: exp.Expr) -> str | None:
    """Why the value of an expression changes with time; None where it does not."""
    for call in tree.find_all(exp.Anonymous):
        if call.name.lower() == "age" and len(call.expressions) == 1:
            return (
                "holds age() of one time, which counts from the current day, so its value changes; "
                "give the time to count from as well"
            )
    for text in tree.find_all(*_TEXTS):
        if text.args.get("is_string", True) and _moves(text):
            return (
                f"holds {text.name!r}, which is the current time where a time is expected, so its value changes; "
                f"filter by a time range instead, or write '{text.name}'::text where it is a text"
            )
    return None


def _moves(text: exp.Expr) -> bool:
    parts = text.name.lower().split()
    if not _WORDS.intersection(parts) or isinstance(text.parent, _OF_TEXT):
        return False
    above = text.parent
    if isinstance(above, exp.Cast):
        while isinstance(above, exp.Cast | exp.Paren):
            if isinstance(above, exp.Cast) and above.to.this in _TIMES:
                return True
            above = above.parent
        return False
    return all(part in _WORDS or _BESIDE.fullmatch(part) for part in parts)
