"""Conditions over dimensions as a configuration writes them: one comparison a line, read in the dimension's type.

::

    condition := NAME ("=" | "!=" | "<" | "<=" | ">" | ">=" | "contains" | "starts with" | "ends with") VALUE
               | NAME ["not"] "in" "(" VALUE {"," VALUE} ")"
               | NAME "between" VALUE "and" VALUE       the first included, the second not
               | NAME "is" ["not"] "null"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from broker.domain.model import Dimension
from broker.domain.query import Condition, Operator
from broker.domain.values import DataType, Scalar
from broker.policy.conditions import Member, check, nearest

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign><=|>=|<>|!=|[=<>(),])|(?P<word>[^\s'"=<>!(),]+))""",
)
_SIGNS = {
    "=": Operator.EQ, "!=": Operator.NE, "<>": Operator.NE, "<": Operator.LT, "<=": Operator.LE, ">": Operator.GT,
    ">=": Operator.GE, "contains": Operator.CONTAINS, "starts with": Operator.STARTS_WITH,
    "ends with": Operator.ENDS_WITH, "in": Operator.IN, "not in": Operator.NOT_IN, "between": Operator.BETWEEN,
    "is null": Operator.IS_NULL, "is not null": Operator.IS_NOT_NULL,
}  # fmt: skip
_EXAMPLES = "`origin = JFK`, `carrier in (AA, UA)` or `tailnum is not null`"
_INTEGER = re.compile(r"[+-]?\d{1,19}")

_Token = tuple[str, str]
"""Kind (quoted, sign or word) and text."""


def read_condition(text: str, dimensions: Mapping[str, Dimension]) -> Condition | list[str]:
    """The condition, its values in the dimension's type; or everything that is wrong with it."""
    tokens = _tokens(text)
    if not tokens or tokens[0][0] != "word":
        return [f"is no condition over a dimension, such as {_EXAMPLES}"]
    name = tokens[0][1]
    dimension = dimensions.get(name)
    if dimension is None:
        return [f"there is no dimension {name!r}{nearest(name, list(dimensions))}"]
    found = _comparison(tokens[1:])
    if found is None:
        signs = ", ".join(_SIGNS)
        return [f"is no comparison; after {name!r} comes one of {signs}, as in {_EXAMPLES}"]
    operator, texts = found
    values: list[Scalar] = []
    problems: list[str] = []
    for given in texts:
        value = _value(given, dimension.type)
        if value is None:
            problems.append(f"{given!r} is no value for {name!r}, which takes {_FORMS[dimension.type]}")
        else:
            values.append(value)
    if problems:
        return problems
    member = Member(dimension.type, dimension.scale)
    checked, violations = check(Condition(name, operator, tuple(values)), "", lambda _: member)
    if violations:
        return [violation.description for violation in violations]
    assert isinstance(checked, Condition)
    return checked


def _tokens(text: str) -> list[_Token]:
    """The tokens; none when something cannot be read."""
    found: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            return []
        kind = str(match.lastgroup)
        token = match[kind]
        found.append((kind, token[1:-1].replace(token[0] * 2, token[0]) if kind == "quoted" else token))
        position = match.end()
    return found


def _comparison(tokens: list[_Token]) -> tuple[Operator, list[str]] | None:
    """The operator and the texts of its values; None when this is no comparison."""
    for length in (3, 2, 1):
        words = " ".join("'" if kind == "quoted" else text.lower() for kind, text in tokens[:length])
        operator = _SIGNS.get(words)
        if operator is None:
            continue
        values = _values(operator, tokens[length:])
        return (operator, values) if values is not None else None
    return None


def _values(operator: Operator, rest: list[_Token]) -> list[str] | None:
    match operator:
        case Operator.IS_NULL | Operator.IS_NOT_NULL:
            shape = ""
        case Operator.BETWEEN:
            shape = "v&v"
        case Operator.IN | Operator.NOT_IN:
            shape = "(" + ",".join("v" * max(1, len(rest) // 2)) + ")"
        case _:
            shape = "v"
    if len(rest) != len(shape):
        return None
    for (kind, text), wanted in zip(rest, shape, strict=True):
        if wanted == "v":
            right = kind != "sign"
        elif wanted == "&":
            right = kind == "word" and text.lower() == "and"
        else:
            right = kind == "sign" and text == wanted
        if not right:
            return None
    return [text for (_, text), wanted in zip(rest, shape, strict=True) if wanted == "v"]


_FORMS = {
    DataType.INT64: "a whole number",
    DataType.DOUBLE: "a number",
    DataType.DECIMAL: "a decimal number",
    DataType.BOOL: "true or false",
    DataType.STRING: "text",
    DataType.TIMESTAMP: "an instant such as 2013-01-31T08:00:00Z",
    DataType.DATE: "a date such as 2013-01-31",
}


def _value(text: str, kind: DataType) -> Scalar | None:
    """The value that a text means in a type; None when it means none."""
    try:
        match kind:
            case DataType.STRING:
                return text
            case DataType.INT64:
                return int(text) if _INTEGER.fullmatch(text) and abs(int(text)) < 2**63 else None
            case DataType.BOOL:
                return {"true": True, "false": False}.get(text.lower())
            case DataType.DATE:
                return date.fromisoformat(text)
            case DataType.TIMESTAMP:
                moment = datetime.fromisoformat(text)
                return moment.astimezone(UTC) if moment.tzinfo else None
            case DataType.DECIMAL | DataType.DOUBLE:
                number = Decimal(text)
                return (number if kind is DataType.DECIMAL else float(number)) if number.is_finite() else None
    except (ValueError, OverflowError, InvalidOperation):
        return None
