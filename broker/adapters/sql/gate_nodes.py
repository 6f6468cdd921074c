"""The first half of the gate: a statement may consist of known parts only, each in its known place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from broker.adapters.sql.gate_rules import (
    FRAME_BOUNDS,
    FRAME_KINDS,
    FRAME_SIDES,
    JOIN_KINDS,
    JOIN_SIDES,
    NAMED_FUNCTIONS,
    PLAIN_ARGS,
    RULES,
    TYPES,
    UNITS,
    GateLimits,
)
from broker.adapters.sql.values import DIALECT
from broker.domain.errors import Violation

_NUMBER = re.compile(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+\.")
_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})
# Signs and NOT nest without brackets; a comma, a bracket or any operand ends the chain.
_PREFIXES = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE})
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def violation(text: str, code: str, node: exp.Expr | None = None) -> Violation:
    """A violation of the text, with its place where the parser has kept it."""
    found = next((n.meta for n in node.walk() if "line" in n.meta), None) if node is not None else None
    where = f"line {found['line']}, column {found['col']}: " if found else ""
    return Violation("text", f"{where}{text}", code)


def check_size(tokens: list[Token], limits: GateLimits) -> Iterator[Violation]:
    """Whether the statement is small and flat enough to be parsed."""
    if len(tokens) > limits.tokens:
        yield violation(f"has {len(tokens)} words and signs; {limits.tokens} are allowed", "SQL_SIZE")
    depth = deepest = chain = longest = 0
    for token in tokens:
        depth += (token.token_type in _OPENING) - (token.token_type in _CLOSING)
        deepest = max(deepest, depth)
        chain = chain + 1 if token.token_type in _PREFIXES else 0
        longest = max(longest, chain)
    if max(deepest, longest) > limits.depth:
        yield violation(f"is nested more than {limits.depth} deep", "SQL_SIZE")


def check_nodes(tree: exp.Expr, limits: GateLimits) -> Iterator[Violation]:
    """Every node that is not allowed, or has a part that is not."""
    tables = queries = 0
    for node in tree.walk():
        tables += isinstance(node, exp.Table)
        queries += isinstance(node, exp.Select)
        allowed = RULES.get(type(node))
        if allowed is None:
            if not _named(node, limits.functions):
                yield _refused(node)
            continue
        for part, value in node.args.items():
            if value not in (None, False, "", []) and part not in PLAIN_ARGS and part not in allowed:
                text = f"{_words(type(node).__name__)} may not have {part.strip('_')!r} here"
                yield violation(text, "SQL_FORM", node)
        if problem := _detail(node):
            yield violation(problem, "SQL_FORM", node)
    for count, limit, what in (
        (tables, limits.tables, "tables"),
        (queries, limits.queries, "nested queries"),
    ):
        if count > limit:
            yield violation(f"has {count} {what}; {limit} are allowed", "SQL_SIZE")


def _named(node: exp.Expr, functions: AbstractSet[str]) -> bool:
    """Whether a function without a rule is allowed by its name: a built-in one, or one that the operator allows.

    Some functions have a class of their own in the parser; what counts is the name that will be written out. Parts that
    are text and not nodes would be written out unchecked, so there may be none.
    """
    if isinstance(node, exp.Anonymous):
        return _name(node) in NAMED_FUNCTIONS or _name(node) in functions
    if not functions or not isinstance(node, exp.Func) or isinstance(node, exp.Binary):
        return False
    parts = [value for value in node.args.values() if value not in (None, False)]
    plain = all(isinstance(value, (exp.Expr, list, bool)) for value in parts)
    return plain and node.sql(DIALECT, comments=False).partition("(")[0].lower() in functions


def _refused(node: exp.Expr) -> Violation:
    if isinstance(node, exp.Func) and not isinstance(node, (exp.Binary, exp.Array)):
        name = _name(node)
        return violation(f"the function {name}() is not allowed", "SQL_FUNCTION", node)
    return violation(f"{_words(type(node).__name__)} is not allowed; write one SELECT", "SQL_FORM", node)


def _name(node: exp.Func) -> str:
    return (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()


def _words(name: str) -> str:
    return _WORDS.sub(" ", name).upper()


def _detail(node: exp.Expr) -> str:
    """What is wrong with the text inside a node; texts that sqlglot writes out unquoted must be known words."""
    match node:
        case exp.Var():
            return "" if node.name.upper() in UNITS else f"{node.name!r} is not a unit of time"
        case exp.Literal() if not node.is_string:
            return "" if _NUMBER.fullmatch(node.name) else f"{node.name!r} is not a number"
        case exp.DataType():
            known = node.this in TYPES and not node.args.get("nested")
            return "" if known else f"the type {node.sql('postgres').lower()} is not allowed"
        case exp.Limit() | exp.Offset():
            plain = isinstance(node.expression, (exp.Literal, exp.Parameter))
            return "" if plain else "LIMIT and OFFSET take a number or a parameter"
        case exp.Join():
            return _join(node)
        case exp.WindowSpec():
            return _frame(node)
        case exp.Window():
            return "" if node.text("over").upper() in ("", "OVER") else "windows cannot be named"
        case exp.Trim():
            return (
                "" if node.text("position").upper() in ("", "BOTH", "LEADING", "TRAILING") else "unknown TRIM"
            )
        case _:
            return ""


def _join(node: exp.Join) -> str:
    if node.side.upper() not in JOIN_SIDES or node.kind.upper() not in JOIN_KINDS:
        return f"a {node.side} {node.kind} join is not allowed"
    return ""


def _frame(node: exp.WindowSpec) -> str:
    kind = node.text("kind").upper()
    for end, side in (("start", "start_side"), ("end", "end_side")):
        bound = node.args.get(end)
        known = bound is None or isinstance(bound, exp.Literal) or str(bound).upper() in FRAME_BOUNDS
        if kind not in FRAME_KINDS or not known or node.text(side).upper() not in FRAME_SIDES:
            return "a window frame is ROWS or RANGE between UNBOUNDED, CURRENT ROW or a number of rows"
    return ""
