"""The SQL of a change token: one value, by one statement that only reads."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError


def token_problem(text: str) -> str:
    """What is wrong with the SQL of a change token; empty when nothing is."""
    try:
        statements = sqlglot.parse(text, dialect="postgres")
    except SqlglotError:
        return "is not SQL that PostgreSQL reads"
    select = statements[0] if len(statements) == 1 else None
    if not isinstance(select, exp.Select) or ";" in text:
        return "must be one SELECT, such as `SELECT max(updated_at) FROM public.flights`"
    if len(select.expressions) != 1 or isinstance(select.expressions[0], exp.Star):
        return "must select one value"
    return ""
