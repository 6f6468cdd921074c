"""Reads the SQL of a model: one value per row, over known tables, the same whenever it is computed.

The text is kept as it was written; only column names without a table get the dataset's own in front. Parsing here
catches mistakes early and finds the tables that an expression needs. It is no sandbox: whoever writes the model is
trusted as much as whoever runs the database, and ``check-config --database`` has PostgreSQL read every expression.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from broker.config.sql_clock import clock_problem
from broker.config.sql_names import (
    AGGREGATES,
    SESSION_FUNCTIONS,
    SET_FUNCTIONS,
    VOLATILE_FUNCTIONS,
    VOLATILE_PREFIXES,
)
from broker.config.sql_text import quote
from broker.policy.conditions import nearest

_PREFIX = "SELECT "
_STAND_IN = "querybroker_value_"
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DIALECT = "postgres"
_FORBIDDEN: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    ((exp.Query, exp.Values), "holds a subquery; make a view of it, or a join"),
    ((exp.Window,), "holds a window function; a value may depend on its own row only"),
    ((exp.Star,), "holds `*`; name the columns"),
    ((exp.Placeholder, exp.Parameter), "holds a parameter; there are no values to put in"),
    ((exp.Tuple,), "is a row of several values; give one"),
)
_CHANGING: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    (
        (exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.Localtime, exp.Localtimestamp),
        "holds the current time, so its value changes; filter by a time range instead",
    ),
    (
        (exp.CurrentUser, exp.SessionUser, exp.CurrentRole, exp.CurrentCatalog, exp.CurrentSchema),
        "holds the user or database of the session; row policies know {principal} and {tenant}",
    ),
)


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL with every column qualified, and the aliases it uses in order of first use."""

    sql: str
    tables: tuple[str, ...]


def read_column(text: str, own: str, aliases: Collection[str]) -> Expression | str:
    """A column given by its name, ``carrier`` or ``airlines.name``, taken literally; or what is wrong with it."""
    table, dot, column = text.partition(".")
    if not dot:
        table, column = own, text
    elif table not in aliases:
        return f"{table!r} is neither the dataset nor one of its joins{nearest(table, list(aliases))}"
    if not column or "." in column or "(" in column:
        return f"{text!r} is not the name of a column; give expressions as `sql`"
    return Expression(f"{quote(table)}.{quote(column)}", (table,))


def read_expression(
    text: str, own: str, aliases: Collection[str], *, values: Collection[str] | None = None
) -> Expression | list[str]:
    """An expression over the columns of the aliases; or everything that is wrong with it.

    ``values`` names the values of the caller that may be used as ``{name}``; one that ends in ``.`` allows any name
    after it.
    """
    try:
        symbols = sqlglot.tokenize(text, dialect=_DIALECT)
    except SqlglotError:
        return ["is not SQL that PostgreSQL reads; is a quote left open?"]
    plain, names, problems = _without_placeholders(text, symbols, values or ())
    if problems:
        return problems
    tree = _parse(plain, symbols)
    if isinstance(tree, str):
        return [tree]
    problems = [message for kinds, message in _FORBIDDEN if tree.find(*kinds)]
    problems += _function_problems(tree, _called(symbols))
    found = _qualify(plain, tree, own, aliases)
    if isinstance(found, list) or problems:
        return [*problems, *(found if isinstance(found, list) else [])]
    sql, tables = found
    for i, name in enumerate(names):
        sql = sql.replace(f"{_STAND_IN}{i}_", f"{{{name}}}")
    # Brackets around what binds more loosely than a condition, such as AT TIME ZONE.
    return Expression(sql if isinstance(tree, exp.Condition) else f"({sql})", tables)


def with_stand_ins(text: str, values: Collection[str]) -> tuple[str, dict[str, str]]:
    """An expression that was read before with columns in place of its ``{name}``, and what each column stands for."""
    plain, names, _ = _without_placeholders(text, sqlglot.tokenize(text, dialect=_DIALECT), values)
    return plain, {f"{_STAND_IN}{i}_": name for i, name in enumerate(names)}


def _without_placeholders(
    text: str, symbols: Sequence[Token], values: Collection[str]
) -> tuple[str, list[str], list[str]]:
    """The text with stand-ins for ``{name}`` outside quotes, the names, and what is wrong with them."""
    names: list[str] = []
    problems: list[str] = []
    pieces: list[str] = []
    end = 0
    for i, symbol in enumerate(symbols):
        if symbol.token_type is TokenType.STRING and values and _known(symbol.text.strip("{}"), values):
            if symbol.text.startswith("{"):
                problems.append(f"has {symbol.text} inside quotes; write it without, it is passed as a value")
        elif symbol.token_type is TokenType.L_BRACE and symbol.start >= end:
            close = next((s for s in symbols[i:] if s.token_type is TokenType.R_BRACE), symbol)
            name = text[symbol.start + 1 : close.start].strip()
            if not _known(name, values):
                listed = [f"{value}NAME" if value.endswith(".") else value for value in values]
                known = (
                    nearest(name, listed) if listed else "; values of the caller are for row policies only"
                )
                problems.append(f"{{{name}}} is not known{known}")
            pieces += [text[end : symbol.start], f"{_STAND_IN}{len(names)}_"]
            names.append(name)
            end = close.end + 1
    return "".join([*pieces, text[end:]]), names, problems


def _known(name: str, values: Collection[str]) -> bool:
    if name in values:
        return not name.endswith(".")
    prefix, dot, rest = name.partition(".")
    return prefix + dot in values and bool(dot) and _ATTRIBUTE.fullmatch(rest) is not None


def _parse(text: str, symbols: Sequence[Token]) -> exp.Expr | str:
    try:
        statements = sqlglot.parse(_PREFIX + text, dialect=_DIALECT)
    except SqlglotError as error:
        return f"is not SQL that PostgreSQL reads{_where(error)}"
    if len(statements) != 1 or any(symbol.token_type is TokenType.SEMICOLON for symbol in symbols):
        return "holds `;`; give one expression"
    select = statements[0]
    if not isinstance(select, exp.Select) or any(
        v for k, v in select.args.items() if k != "expressions" and v
    ):
        return "is not a single expression; give what would stand between SELECT and FROM"
    if len(select.expressions) != 1:
        return f"is {len(select.expressions) or 'no'} expressions; give one"
    tree = select.expressions[0]
    assert isinstance(tree, exp.Expr)
    if isinstance(tree, exp.Alias):
        return f"has a name of its own ({tree.alias}), or an operator is missing before it"
    if any(symbol.comments for symbol in symbols):
        return "holds a comment; write it as a comment of the file"
    return tree


def _where(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if not details:
        return "; is a quote or bracket left open?"
    column = int(details[0]["col"]) - len(_PREFIX)
    near = str(details[0]["highlight"]).strip()
    return f": near {near!r}, character {max(column, 1)}" if near else ""


def functions_in(sql: str) -> frozenset[str]:
    """The functions that an expression calls, in lower case, and some words that are followed by a bracket."""
    return _called(sqlglot.tokenize(sql, dialect=_DIALECT))


def _called(symbols: Sequence[Token]) -> frozenset[str]:
    return frozenset(
        name.text.lower()
        for name, bracket in pairwise(symbols)
        if bracket.token_type is TokenType.L_PAREN and re.fullmatch(r"[A-Za-z_]\w*", name.text)
    )


def _function_problems(tree: exp.Expr, functions: frozenset[str]) -> list[str]:
    problems = []
    for name in sorted(functions):
        if name in AGGREGATES:
            problems.append(f"holds the aggregate function {name}(); measures aggregate by their kind")
        elif name in SET_FUNCTIONS:
            problems.append(f"holds {name}(), which returns several rows; make a view, or a join")
        elif name in VOLATILE_FUNCTIONS or name.startswith(VOLATILE_PREFIXES):
            problems.append(
                f"holds {name}(), whose value changes from call to call, or which does more than calculate"
            )
        elif name in SESSION_FUNCTIONS:
            problems.append(f"holds {name}(), whose value depends on the database session")
    if not problems and tree.find(exp.AggFunc):
        problems.append("holds an aggregate function; measures aggregate by their kind")
    if not problems:
        problems += [message for kinds, message in _CHANGING if tree.find(*kinds)]
        problems += filter(None, [clock_problem(tree)])
    return problems


def _qualify(
    text: str, tree: exp.Expr, own: str, aliases: Collection[str]
) -> tuple[str, tuple[str, ...]] | list[str]:
    """The text with ``own.`` before every column without a table, and the aliases; or what is wrong."""
    problems: list[str] = []
    edits: list[tuple[int, int, str]] = []
    used: dict[int, str] = {}
    for column in tree.find_all(exp.Column):
        name, table = column.this, column.args.get("table")
        if column.name.startswith(_STAND_IN) or isinstance(name, exp.Star):
            continue
        start = name.meta["start"] - len(_PREFIX)
        if column.args.get("db"):
            problems.append(
                f"{column.sql(_DIALECT)} names a schema; tables go by the names of dataset and joins"
            )
        elif table is None:
            edits.append((start, start, f"{quote(own)}."))
            used[start] = own
        else:
            alias = table.name if table.args.get("quoted") else table.name.lower()
            start = table.meta["start"] - len(_PREFIX)
            if alias not in aliases:
                hint = nearest(alias, list(aliases))
                problems.append(
                    f"{alias!r} in {column.sql(_DIALECT)} is neither the dataset nor a join{hint}"
                )
            used[start] = alias
            edits.append((start, table.meta["end"] - len(_PREFIX) + 1, quote(alias)))
    if problems:
        return list(dict.fromkeys(problems))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text.strip(), tuple(dict.fromkeys(used[start] for start in sorted(used)))
