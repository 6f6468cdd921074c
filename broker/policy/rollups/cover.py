"""The cheapest way to answer a scan from rollups and from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.domain.plan import Scan
from broker.domain.rollup import Cover, Coverage, Rejection, Rollup, Span
from broker.policy.rollups.asked import Asked, Terms
from broker.policy.rollups.costs import Costs
from broker.policy.rollups.covering import Covering
from broker.policy.rollups.stored import Memory


def cover(
    scan: Scan,
    candidates: Sequence[Rollup],
    coverage: Mapping[str, Coverage],
    costs: Costs,
    *,
    lateness_allowed: float | None = None,
    require: bool = False,
    live: bool = True,
    sealed: Sequence[Span] = (),
    excluded: Sequence[Rejection] = (),
    memory: Memory | None = None,
    asked: Asked | None = None,
) -> Cover:
    """The cheapest cover; one without pieces when there is none.

    ``candidates`` have passed the rules and are over one time dimension; ``excluded`` are those that did not pass, or
    that the caller cannot use now, with the reason. What is sealed is not read from the tables, for its rows may be
    gone, nor from segments of others, which may have been built after that: the spans of the coverage, which may hold
    more rollups than the candidates, and ``sealed`` ones along the same time dimension. A rollup that may miss
    rows later than ``lateness_allowed`` seconds is not used; None allows any lateness. With ``require`` at least one
    rollup takes part, and the tables give only what no rollup holds, in as many spans as it takes, and as little beside
    it as buckets of two rollups allow that do not meet; without ``live`` they give nothing. ``memory`` makes it faster
    where segments are seen again, ``asked`` where it is known already what the scan asks of rollups over the
    candidates' time dimension.

    The range is cut where a bucket, a segment or a change of any rollup begins or ends. :mod:`cheapest` says what is
    minimised over these intervals, for the best ``MAX_COMBINED`` candidates. Of equal costs the fresher cover is taken,
    then that of fewer spans, then by name.
    """
    own = Terms(lateness_allowed, require, live, sealed, asked)
    return Covering(scan, candidates, coverage, costs, own, excluded, memory or Memory()).find()
