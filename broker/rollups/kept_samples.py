"""Samples that are kept in files beside the segments, and estimates from them while the database is away.

A sample is two draws of one snapshot, a small one that decides, as a pilot does, and a large one that tells; each is a
file of rows with the numbers of their blocks, and a third file, written last, says what they are. Files appear whole,
by a rename. Processes of one host share the directory: whoever finds a sample that is young enough uses it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from broker.domain.deadline import Deadline
from broker.domain.errors import BrokerError, ErrorReason
from broker.domain.fingerprint import fingerprint
from broker.domain.model import Dataset
from broker.domain.plan import Plan
from broker.domain.pool import PoolName
from broker.domain.sample import MOST_GROUPS, BlockSums, Draw, Extent, KeptRows, NoEstimate
from broker.policy.estimate_figures import figures
from broker.policy.estimate_kept import read_from_kept
from broker.ports.samples import BlockAdder

_UNFINISHED = 3600.0
"""Seconds after which a file that no head names is nobody's work any more."""
_HEAD = ".sample.json"
_ROWS = ".sample.rows"


@dataclass(frozen=True, slots=True)
class Kept:
    """A sample of a dataset in files: the draw that decides, and the one that tells."""

    version: str
    as_of: datetime
    pilot: KeptRows
    main: KeptRows


class SampleFiles:
    """The files of one database's samples in a directory. All of it blocks: call it in threads."""

    def __init__(self, directory: Path, scope: str) -> None:
        self._directory, self._scope = directory, scope

    def read(self, dataset: Dataset) -> Kept | None:
        """The sample of a dataset, if one was kept of this definition."""
        try:
            found = json.loads(self._head(dataset).read_text(encoding="utf-8"))
            parts = [KeptRows(**part) for part in found["parts"]]
            kept = Kept(found["version"], datetime.fromisoformat(found["as_of"]), *parts)
            here = all(Path(part.path).is_file() for part in parts)
        except (OSError, ValueError, LookupError, TypeError):  # none, or not one that this version wrote
            return None
        return kept if here and kept.version == dataset.version else None

    def write(self, dataset: Dataset, as_of: datetime, parts: Sequence[tuple[bytes, int, int]]) -> Kept:
        """Keeps a sample, each part with its blocks and those that were drawn, and removes the last one."""
        self._directory.mkdir(parents=True, exist_ok=True)
        old = self.read(dataset)
        name = f"{fingerprint(self._scope, dataset.name)}-{secrets.token_hex(6)}"
        found = []
        for i, (data, blocks, drawn) in enumerate(parts):
            path = self._directory / f"{name}.{i}{_ROWS}"
            _write(path, data)
            found.append(KeptRows(str(path), blocks, drawn))
        kept = Kept(dataset.version, as_of, *found)
        head = {
            "version": kept.version,
            "as_of": as_of.isoformat(),
            "parts": [asdict(part) for part in found],
        }
        _write(self._head(dataset), json.dumps(head).encode())
        for part in (old.pilot, old.main) if old is not None else ():
            with suppress(OSError):
                Path(part.path).unlink()
        self._sweep(dataset, kept)
        return kept

    def _sweep(self, dataset: Dataset, kept: Kept) -> None:
        """Removes what processes that were killed, or that wrote at the same time, have left behind."""
        written = Path(kept.main.path).stat().st_mtime
        mine = {kept.pilot.path, kept.main.path, str(self._head(dataset))}
        for path in self._directory.glob(f"{fingerprint(self._scope, dataset.name)}[-.]*"):
            with suppress(OSError):
                if str(path) not in mine and path.stat().st_mtime < written - _UNFINISHED:
                    path.unlink()

    def _head(self, dataset: Dataset) -> Path:
        return self._directory / f"{fingerprint(self._scope, dataset.name)}{_HEAD}"


class KeptSamples:
    """Samples of datasets, by name; the port ``Samples`` over what is kept."""

    def __init__(self, adder: BlockAdder) -> None:
        self._adder = adder
        self._kept: dict[str, Kept] = {}

    def put(self, dataset: Dataset, kept: Kept) -> None:
        """There is a new sample of a dataset."""
        self._kept[dataset.name] = kept

    def get(self, dataset: Dataset) -> Kept | None:
        """The sample of a dataset, if it is of this definition."""
        found = self._kept.get(dataset.name)
        return found if found is not None and found.version == dataset.version else None

    @asynccontextmanager
    async def table(self, pool: PoolName, plan: Plan, deadline: Deadline) -> AsyncIterator[KeptTable]:
        """The sample of a plan's dataset. Raises BrokerError STORE_UNAVAILABLE where none is kept."""
        kept = self.get(plan.main.dataset)
        if kept is None:
            text = "No sample of this dataset is kept. Ask again when the database is back."
            raise BrokerError(ErrorReason.STORE_UNAVAILABLE, text)
        yield KeptTable(kept, plan, pool, deadline, self._adder)


class KeptTable:
    """See :class:`broker.ports.samples.SampledTable`: the first read is that of the pilot, whatever is to be drawn."""

    def __init__(self, kept: Kept, plan: Plan, pool: PoolName, deadline: Deadline, adder: BlockAdder) -> None:
        self._kept, self._pool, self._deadline, self._adder = kept, pool, deadline, adder
        self._figures, self._block = figures(plan), read_from_kept(plan)
        self._parts = iter((kept.pilot, kept.main))

    @property
    def source_name(self) -> str:
        """A kept sample."""
        return "kept sample"

    @property
    def as_of(self) -> datetime:
        """Instant at which it was drawn."""
        return self._kept.as_of

    @property
    def replica_lag(self) -> float | None:
        """None: how old it is, ``as_of`` says."""
        return None

    async def extent(self) -> Extent | NoEstimate:
        """How much was drawn from, and how much was drawn."""
        if self._block is None:
            return NoEstimate.NOT_KEPT
        return Extent(self._kept.main.blocks, 0.0, self._kept.main.drawn)

    async def cost(self, draw: Draw) -> float:
        """Nothing of the database's."""
        del draw
        return 0.0

    async def read(self, draw: Draw) -> BlockSums | NoEstimate:
        """Adds up what was drawn."""
        del draw
        assert self._block is not None, "the extent said so"
        found = await self._adder.block_sums(
            self._pool, next(self._parts), self._block, self._figures, MOST_GROUPS, self._deadline
        )
        return NoEstimate.GROUPS if found is None else found


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
