"""Whether a join that is declared to meet one row at most really does."""

from __future__ import annotations

import sqlglot
from sqlglot import exp

from broker.config.findings import Severity
from broker.config.sql_text import quote
from broker.domain.model import Join
from broker.domain.relations import Relation
from broker.ports.introspection import Introspector


async def uniqueness_problem(
    join: Join, relation: Relation, database: Introspector
) -> tuple[str, Severity] | None:
    """What is wrong with the kind of a join, if anything: a row that meets several is counted several times.

    A unique key that the condition fixes is proof. Without one the rows are looked at: repeated values are an error,
    the lack of any is only how it stands today.
    """
    columns = _fixed_columns(join)
    if any(set(key) <= columns for key in relation.unique_keys):
        return None
    advice = "declare `kind: one_to_many`, or join by a unique key"
    if not columns:
        return (
            f"its condition fixes no column of {join.name!r}, so rows may be counted several times; {advice}",
            Severity.WARNING,
        )
    listed = ", ".join(quote(name) for name in sorted(columns))
    present = " AND ".join(f"{quote(name)} IS NOT NULL" for name in sorted(columns))
    repeated = await database.exists(
        f"SELECT FROM {join.table} WHERE {present} GROUP BY {listed} HAVING count(*) > 1"
    )
    if repeated:
        return (
            f"{join.table} has several rows with the same {listed}, which would be counted several times; {advice}",
            Severity.ERROR,
        )
    today = "today none does" if repeated is False else "whether any does takes too long to find out"
    index = f"CREATE UNIQUE INDEX ON {join.table} ({listed})" if relation.kind.stored else advice
    return (
        f"no unique key keeps rows of {join.table} from sharing {listed} ({today}): {index}",
        Severity.WARNING,
    )


def _fixed_columns(join: Join) -> set[str]:
    """Columns of the joined table that the condition equates with something that does not depend on the table."""
    tree = sqlglot.parse_one(join.on, dialect="postgres")
    found: set[str] = set()
    for part in tree.flatten() if isinstance(tree, exp.And) else [tree]:
        bare = part.unnest()
        if isinstance(bare, exp.EQ):
            for side, other in ((bare.left, bare.right), (bare.right, bare.left)):
                own = isinstance(side, exp.Column) and side.table.lower() == join.name
                if own and all(column.table.lower() != join.name for column in other.find_all(exp.Column)):
                    name = side.this
                    found.add(name.name if name.args.get("quoted") else name.name.lower())
    return found
