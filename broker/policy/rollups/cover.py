"""The cheapest way to answer a scan from rollups and from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.domain.plan import Scan
from broker.domain.rollup import ALWAYS, Cover, Coverage, Piece, Rejection, Rollup, Span, micros
from broker.policy.rollups.costs import Costs


def cover(
    scan: Scan,
    candidates: Sequence[Rollup],
    coverage: Mapping[str, Coverage],
    costs: Costs,
    *,
    lateness_allowed: float | None = None,
    require: bool = False,
    live: bool = True,
    excluded: Sequence[Rejection] = (),
) -> Cover:
    """The cheapest cover; one without pieces when there is none.

    ``candidates`` have passed the rules; ``excluded`` are those that did not, or that the caller cannot use now, with
    the reason. ``coverage`` may hold more rollups than the candidates: what a sealed segment of any of them holds is
    not read from the tables. A rollup that may miss rows later than ``lateness_allowed`` seconds is not used; None
    allows any lateness. With ``require`` at least one rollup takes part, and the tables give only what no rollup holds;
    without ``live`` they give nothing.
    """
    bounds = scan.bounds if scan.time is not None else None
    span = ALWAYS if bounds is None else Span(micros(bounds.start), micros(bounds.end))
    if require or not live:
        return Cover((), 0.0, excluded)
    return Cover((Piece("", (span,)),), costs.live_seconds, excluded)
