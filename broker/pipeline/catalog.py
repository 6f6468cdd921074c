"""What may be asked, and by whom: the semantic model as one principal sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Model
from broker.domain.principal import Principal

Beside = Mapping[str, Dataset | BrokerError]
"""Datasets of one principal by name, or why one of them cannot be had."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The datasets of a model. What a principal may not query does not exist for them.

    ``beside`` are those that jobs made for the principal who asks; a name of the model's is never one of these.
    """

    model: Model
    beside: Beside = field(default_factory=dict)

    def with_beside(self, beside: Beside) -> Catalog:
        """The same model for one principal, who has datasets of their own."""
        return replace(self, beside=beside)

    def datasets(self, principal: Principal) -> Sequence[Dataset]:
        """The datasets that the principal may query, by name."""
        return sorted(
            (d for d in self.model.datasets.values() if principal.has_any(d.grants)), key=lambda d: d.name
        )

    def dataset(self, name: str, principal: Principal) -> Dataset:
        """One dataset.

        Raises:
            BrokerError: DATASET_NOT_FOUND, with the nearest name that the principal may query.
        """
        dataset = self.model.datasets.get(name)
        if dataset is not None and principal.has_any(dataset.grants):
            return dataset
        own = self.beside.get(name) if name not in self.model.datasets else None
        if isinstance(own, BrokerError):
            raise own
        if own is not None:
            return own
        names = [d.name for d in self.datasets(principal)]
        close = get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else " ListDatasets names those that you may query."
        raise BrokerError(
            ErrorReason.DATASET_NOT_FOUND,
            f"There is no dataset {name!r}, or you may not see it.{hint}",
            metadata={"dataset": name},
            resource=f"datasets/{name}",
        )
