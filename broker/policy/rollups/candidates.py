"""Which rollups of a dataset could answer a scan, by everything that can be decided without their coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.domain.model import Dataset
from broker.domain.plan import Scan
from broker.domain.query import Filter
from broker.domain.rollup import Rejection, Rollup, Span
from broker.domain.terms import Consistency


@dataclass(frozen=True, slots=True)
class Checked:
    """The rollups that pass every rule, by name, and the others with all rules that failed, found when looked at.

    ``spans`` is by time dimension the range that is asked for, from the bounds and from conditions on that dimension;
    ``filters`` is by accepted rollup what is left to filter stored values by: the query's filter, which the rollup's
    own need not repeat, and the row policies with the principal's values.
    """

    accepted: tuple[Rollup, ...]
    rejected: Sequence[Rejection] = ()
    spans: tuple[tuple[str, Span], ...] = ()
    filters: tuple[tuple[str, Filter | None], ...] = ()


class Candidates:
    """The rollups of one dataset, indexed by what they hold; built once for each version of the model.

    Remembers what it found for the last ``remembered`` shapes of scans.
    """

    def __init__(self, dataset: Dataset, remembered: int = 512) -> None:
        self.dataset = dataset
        self._remembered = remembered

    def check(self, scan: Scan, consistency: Consistency = Consistency.BOUNDED) -> Checked:
        """The rollups that pass, and the others."""
        return Checked(())
