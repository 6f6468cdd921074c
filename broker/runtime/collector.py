"""The garbage collector of a process that answers requests.

Requests leave no cycles behind, so looking for some after every 700 objects, which is Python's habit, only makes one
call in a hundred wait. What exists when the process begins to serve stays for its life and is never looked at again.
"""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 20, 50)
"""Objects more than before the youngest generation is looked through, and how often the others come along."""


def settle() -> None:
    """Call it once, when everything that lives as long as the process has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
