"""What may be asked, and by whom: the semantic model as one principal sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.model import Dataset, Model
from broker.domain.principal import Principal


@dataclass(frozen=True, slots=True)
class Catalog:
    """The datasets of a model. What a principal may not query does not exist for them."""

    model: Model

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
        names = [d.name for d in self.datasets(principal)]
        close = get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else " ListDatasets names those that you may query."
        raise BrokerError(
            ErrorReason.DATASET_NOT_FOUND,
            f"There is no dataset {name!r}, or you may not see it.{hint}",
            metadata={"dataset": name},
            resource=f"datasets/{name}",
        )
