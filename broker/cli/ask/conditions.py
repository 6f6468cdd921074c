"""Conditions as people write them: ``origin = JFK and (dep_delay > 60 or carrier in (UA, AA))``.

A recursive descent over four rules, loosest first::

    either    := both {"or" both}
    both      := one {"and" one}
    one       := "not" one | "(" either ")" | condition
    condition := NAME ("=" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "starts with" | "ends with") VALUE
               | NAME ["not"] "in" ( "(" VALUE {"," VALUE} ")" | VALUE {"," VALUE} )
               | NAME "between" VALUE "and" VALUE       the first included, the second not
               | NAME "is" ["not"] "null"
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.cli.ask.literals import parse_value
from broker.cli.ask.problems import UnreadableError
from querybroker.v1 import query_pb2
from querybroker.v1.query_pb2 import Condition, Filter, FilterGroup, Value

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<symbol><=|>=|<>|!=|==|[=<>(),])
      | (?P<word>[^\s'"=<>!(),]+)
    )""",
    re.VERBOSE,
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOLS = {
    "=": query_pb2.FILTER_OPERATOR_EQ,
    "==": query_pb2.FILTER_OPERATOR_EQ,
    "!=": query_pb2.FILTER_OPERATOR_NE,
    "<>": query_pb2.FILTER_OPERATOR_NE,
    "<": query_pb2.FILTER_OPERATOR_LT,
    "<=": query_pb2.FILTER_OPERATOR_LE,
    ">": query_pb2.FILTER_OPERATOR_GT,
    ">=": query_pb2.FILTER_OPERATOR_GE,
    "contains": query_pb2.FILTER_OPERATOR_CONTAINS,
    "starts_with": query_pb2.FILTER_OPERATOR_STARTS_WITH,
    "ends_with": query_pb2.FILTER_OPERATOR_ENDS_WITH,
}
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "between"})
_OPERATORS = (
    "=, !=, <, <=, >, >=, in, not in, between, contains, starts with, ends with, is null or is not null"
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """The token as a word or sign of the language; empty for quoted text."""
        return "" if self.kind == "quoted" else self.text.lower()


def parse_condition(text: str) -> Filter:
    """The filter that the text means. Raises `UnreadableError` with the position of what cannot be read."""
    parser = _Parser(text, _tokens(text))
    tree = parser.either()
    parser.end()
    return tree


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].lstrip()
            what = "a quote that is not closed" if rest[0] in "'\"" else f"{rest[0]!r}"
            raise UnreadableError(f"cannot read {what} at {_pointed(text, len(text) - len(rest))}")
        kind = str(match.lastgroup)
        found.append(_Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return found


def _pointed(text: str, at: int) -> str:
    return f"column {at + 1} of {text!r}"


class _Parser:
    """One pass over the tokens of one text."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text = text
        self._tokens = tokens
        self._next = 0

    def either(self) -> Filter:
        """Conditions joined by ``or``."""
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Filter(any_of=FilterGroup(filters=parts))

    def end(self) -> None:
        """Nothing may be left."""
        if self._next < len(self._tokens):
            raise self._expected("`and`, `or` or the end")

    def _both(self) -> Filter:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Filter(all_of=FilterGroup(filters=parts))

    def _one(self) -> Filter:
        if self._take("not"):
            return Filter(not_filter=self._one())
        if self._take("("):
            tree = self.either()
            if not self._take(")"):
                raise self._expected("`)`")
            return tree
        return Filter(condition=self._condition())

    def _condition(self) -> Condition:
        name = self._peek()
        if name is None or name.kind != "word" or not _NAME.fullmatch(name.text) or name.keyword in _KEYWORDS:
            raise self._expected("the name of a dimension or measure")
        self._next += 1
        operator, values = self._comparison()
        return Condition(member=name.text, operator=operator, values=values)

    def _comparison(self) -> tuple[query_pb2.FilterOperator.ValueType, list[Value]]:
        if self._take("is"):
            negated = self._take("not")
            if not self._take("null"):
                raise self._expected("`null`")
            return query_pb2.FILTER_OPERATOR_IS_NOT_NULL if negated else query_pb2.FILTER_OPERATOR_IS_NULL, []
        if self._take("between"):
            low = self._value()
            if not self._take("and"):
                raise self._expected("`and` and the value that ends the range")
            return query_pb2.FILTER_OPERATOR_BETWEEN, [low, self._value()]
        if self._take("not"):
            if not self._take("in"):
                raise self._expected("`in`")
            return query_pb2.FILTER_OPERATOR_NOT_IN, self._list()
        if self._take("in"):
            return query_pb2.FILTER_OPERATOR_IN, self._list()
        for word in ("starts", "ends"):
            if self._take(word):
                if not self._take("with"):
                    raise self._expected("`with`")
                return _SYMBOLS[f"{word}_with"], [self._value()]
        token = self._peek()
        if token is None or token.keyword not in _SYMBOLS:
            raise self._expected(f"a comparison ({_OPERATORS})")
        self._next += 1
        return _SYMBOLS[token.keyword], [self._value()]

    def _list(self) -> list[Value]:
        bracket = self._take("(")
        values = [self._value()]
        while self._take(","):
            values.append(self._value())
        if bracket and not self._take(")"):
            raise self._expected("`,` or `)`")
        return values

    def _value(self) -> Value:
        token = self._peek()
        if token is None or token.kind == "symbol":
            raise self._expected("a value; text with spaces or signs goes in quotes")
        self._next += 1
        if token.kind == "quoted":
            quote = token.text[0]
            return Value(string_value=token.text[1:-1].replace(quote * 2, quote))
        return parse_value(token.text)

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, keyword: str) -> bool:
        token = self._peek()
        if token is None or token.keyword != keyword:
            return False
        self._next += 1
        return True

    def _expected(self, what: str) -> UnreadableError:
        token = self._peek()
        if token is None:
            return UnreadableError(f"expected {what} at the end of {self._text!r}")
        return UnreadableError(
            f"expected {what} instead of {token.text!r} at {_pointed(self._text, token.at)}"
        )
