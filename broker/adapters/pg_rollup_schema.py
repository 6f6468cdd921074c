"""What the rollups of a dataset need in the source's own database: triggers, functions, and their registration."""

from __future__ import annotations

from broker.adapters.pg_rollup_ddl import functions, triggers, written_tables
from broker.adapters.pg_rollup_tracked import sources
from broker.domain.model import Dataset


class RollupSchema:
    """Statements for people and for :class:`broker.adapters.pg_rollups.PgRollups`; it holds nothing."""

    def ddl(self, dataset: Dataset) -> tuple[str, ...]:
        """The functions, and the triggers of tables without partitions; ``:source`` is a number given by install."""
        found: list[str] = []
        for source in sources(dataset):
            if not source.written:
                continue
            found += functions(source, None).values()
            for table in written_tables(source):
                for pair in triggers(source, table, table.table).values():
                    found += pair
        return tuple(found)
