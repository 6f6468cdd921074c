"""What becomes of a recorded load as tables and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from broker.cli.render.console import listing

if TYPE_CHECKING:
    from broker.domain.pool import PoolName
    from broker.simulation.double import Outlook, Row, Use
    from broker.simulation.replay import Replayed

MOST_TENANTS = 12
"""Tenants that are shown, the worst hit ones; pools are shown all."""


def outlook_tables(outlook: Outlook) -> tuple[Table, Table]:
    """Pools and tenants, and databases, with a column for every load."""
    return _requests(outlook.rows), _databases(outlook)


def _requests(rows: Sequence[Row]) -> Table:
    loads = sorted({row.load for row in rows})
    by_place = {(row.pool, row.tenant, row.load): row for row in rows}
    pools = sorted({row.pool for row in rows})
    tenants = {(row.pool, row.tenant) for row in rows if row.tenant}
    worst: dict[tuple[PoolName, str], float] = {}
    for row in rows:
        worst[row.pool, row.tenant] = max(worst.get((row.pool, row.tenant), 0.0), _badness(row))
    hit = sorted(tenants, key=lambda place: (-worst[place], place))
    shown = set(hit[:MOST_TENANTS])
    table = listing(
        ("pool", "tenant"), title="Requests: refused or late, for want of; wait at the 99th percentile"
    )
    for load in loads:
        table.add_column(f"{load:g}x", no_wrap=True)
    for pool in pools:
        own = sorted(tenant for place, tenant in shown if place is pool)
        for tenant in ("", *(own if len(own) > 1 else ())):
            cells = [_cell(by_place.get((pool, tenant, load))) for load in loads]
            table.add_row(Text(pool.value if not tenant else ""), Text(tenant or "all"), *cells)
    if len(tenants) > len(shown):
        table.caption = f"and {len(tenants) - len(shown)} tenants that are hit less"
        table.caption_justify = "left"
    return table


def _badness(row: Row) -> float:
    return row.refused + row.late


def _cell(row: Row | None) -> Text:
    """The shares and the wait, in red from where it is broken."""
    if row is None:
        return Text()
    said = f"{_badness(row):.1%}"
    if row.broken and row.part is not None:
        said += f" {row.part.value}"
    return Text(f"{said}, {row.wait:.2f} s", style="bold red" if row.broken else "")


def _databases(outlook: Outlook) -> Table:
    table = listing(("database", "full speed"), title="Databases: seats in use on average, and how busy")
    loads = sorted({use.load for use in outlook.uses})
    for load in loads:
        table.add_column(f"{load:g}x", no_wrap=True)
    for name in dict.fromkeys(use.database for use in outlook.uses):
        uses: list[Use] = [use for use in outlook.uses if use.database == name]
        word = "told by the load" if uses[0].seen else "never full, as configured"
        cells = [Text(f"{use.seats:.1f}, {use.busy:.0%}") for use in sorted(uses, key=lambda use: use.load)]
        table.add_row(Text(name), Text(f"{uses[0].slots:.0f} seats ({word})"), *cells)
    return table


def replay_text(replayed: Replayed) -> str:
    """Whether a log was decided again as it was, and if not, where it first was not."""
    decisions = ", ".join(f"{count:,} {kind}" for kind, count in sorted(replayed.decisions.items()))
    span = f"{replayed.events:,} events in {replayed.seconds:,.1f} s"
    if replayed.difference is None:
        missing = f"Events are missing before {replayed.gap}: what follows cannot be decided again."
        if replayed.gap and not replayed.events:
            return missing
        said = f"All decisions are the same: {span}; {decisions or 'nothing was decided'}."
        return f"{said} {missing}" if replayed.gap else said
    return f"The decisions differ after {span}, first at {replayed.difference}"
