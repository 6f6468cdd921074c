"""Names and row sources of a model as SQL text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from broker.config.sql_names import RESERVED_WORDS
from broker.domain.model import Dataset

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_NAME = r'"(?:[^"]|"")+"|[^\W\d][\w$]*'
_TABLE = re.compile(rf"(?:(?P<schema>{_NAME})\.)?(?P<table>{_NAME})")


def quote(name: str) -> str:
    """A name as an identifier, in quotes only where it needs them."""
    if _PLAIN.fullmatch(name) and name not in RESERVED_WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def read_table(text: str) -> tuple[str, str] | None:
    """Schema and name of a table as PostgreSQL would read them, the schema ``public`` when there is none."""
    match = _TABLE.fullmatch(text.strip())
    return (_unquote(match["schema"] or "public"), _unquote(match["table"])) if match is not None else None


def show_table(schema: str, name: str) -> str:
    """The qualified name of a table."""
    return f"{quote(schema)}.{quote(name)}"


def rows(dataset: Dataset, aliases: Iterable[str]) -> str:
    """The FROM clause over the dataset's own table and the joins that the aliases need, parents first."""
    needed: set[str] = set()
    for alias in aliases:
        current = alias
        while current != dataset.name:
            needed.add(current)
            current = dataset.joins[current].parent
    text = f"FROM {dataset.table} AS {quote(dataset.name)}"
    joined = {dataset.name}
    while needed:
        for name in [
            name for name in dataset.joins if name in needed and dataset.joins[name].parent in joined
        ]:
            join = dataset.joins[name]
            text += f" LEFT JOIN {join.table} AS {quote(name)} ON {join.on}"
            joined.add(name)
            needed.discard(name)
    return text


def _unquote(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
