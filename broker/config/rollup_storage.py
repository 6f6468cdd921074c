"""Where rollups are kept and how changes are noticed: which settings go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from broker.config.document import Path
from broker.config.schema_rollups import RollupConfig
from broker.config.sql_text import read_table, show_table
from broker.config.sql_token import token_problem
from broker.domain.measures import SKETCHES
from broker.domain.model import Dataset
from broker.domain.rollup import Storage, Tracking

_NEEDS = {"lateness": Tracking.APPEND_ONLY, "token": Tracking.CHANGE_TOKEN}


def tracking_of(given: RollupConfig) -> Tracking:
    """How changes are noticed."""
    return given.tracking or (Tracking.NONE if given.storage is Storage.EXTERNAL else Tracking.TRIGGERS)


def tracking_problems(given: RollupConfig) -> Iterator[tuple[Path, str]]:
    """What is wrong with how changes are noticed."""
    tracking, external = tracking_of(given), given.storage is Storage.EXTERNAL
    if external and tracking is Tracking.TRIGGERS:
        text = (
            "what an external relation holds is not known to writers; use append_only, change_token or none"
        )
        yield ("tracking",), text
    if not external and tracking is Tracking.NONE:
        yield ("tracking",), "none is only for external rollups; use triggers, append_only or change_token"
    for key, needed in _NEEDS.items():
        value = getattr(given, key)
        if tracking is needed and value in ("", None):
            yield ("tracking",), f"{needed} needs `{key}`"
        elif tracking is not needed and value not in ("", None):
            yield (key,), f"says nothing with `tracking: {tracking}`; remove it, or use {needed}"
    if given.token and (problem := token_problem(given.token)):
        yield ("token",), problem


def storage_problems(
    given: RollupConfig, dataset: Dataset, measures: Iterable[str]
) -> Iterator[tuple[Path, str]]:
    """What the storage cannot hold, and which settings are another's."""
    if given.storage is not Storage.SEGMENTS:
        for kind, measure in ((dataset.measures[m].kind, m) for m in measures):
            if kind in SKETCHES:
                yield ("storage",), f"{measure!r} is an {kind}, whose sketches only `storage: segments` holds"
    if given.storage is not Storage.EXTERNAL:
        for key in ("relation", "columns"):
            if getattr(given, key):
                yield (key,), f"says nothing with `storage: {given.storage}`; remove it, or use external"
    elif not given.relation:
        yield (), "needs `relation`: the table or view that holds it"
    elif read_table(given.relation) is None:
        yield ("relation",), f"{given.relation!r} is not the name of a table; give it as `schema.table`"


def relation_of(given: RollupConfig) -> str:
    """The qualified name of an external rollup's relation, empty when there is none."""
    parts = read_table(given.relation) if given.relation else None
    return show_table(*parts) if parts is not None else ""
