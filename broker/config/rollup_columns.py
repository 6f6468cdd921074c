"""The columns of an external rollup: which hold what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.config.document import Path
from broker.domain.measures import ORDERED, order_keys, states
from broker.domain.model import Dataset, Dimension
from broker.policy.conditions import nearest


def read_columns(
    given: Mapping[str, str],
    dataset: Dataset,
    time: Dimension | None,
    dimensions: Iterable[str],
    measures: Iterable[str],
) -> tuple[dict[str, str], list[tuple[Path, str]]]:
    """Column by time dimension, dimension and state (``dep_delay.s``); and what is wrong, with its place."""
    names = [*([time.name] if time is not None else []), *dimensions]
    columns = {name: given.get(name, name) for name in names}
    known = dict.fromkeys(names, "")
    missing: list[str] = []
    problems: list[tuple[Path, str]] = []
    for name in measures:
        measure = dataset.measures[name]
        owned = states(measure, order_keys(dataset) if measure.kind in ORDERED else ())
        short = name if len(owned) == 1 else ""
        known |= dict.fromkeys(filter(None, [short]), "")
        for state in owned:
            key = f"{name}.{state.name}"
            known[key] = ""
            found = [given[k] for k in (key, short) if k in given]
            if not found:
                missing.append(short or key)
            else:
                columns[key] = found[0]
            if len(found) > 1:
                problems.append((("columns", short), f"is given as {key!r} too; keep one"))
    if missing:
        text = f"`columns` does not say which hold {', '.join(missing)}"
        problems.append(((), text))
    problems += [
        (("columns", key), f"{key!r} is not stored{nearest(key, list(known))}")
        for key in given
        if key not in known
    ]
    return columns, problems
