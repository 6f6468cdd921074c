"""Names and scalars of a proposed configuration."""

from __future__ import annotations

import json
import re
import unicodedata

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ .=\"]+[A-Za-z0-9_\"]+)*")
_OTHER_MEANING = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_LONGEST = 63
_POINTER = re.compile(r"_(?i:id|uuid|guid|key|fk)$|(?<=[a-z])(Id|ID|Uuid|UUID|Guid|GUID|Key)$")
"""The end of a name that says that it points somewhere; ``uid`` and ``paid`` are words of their own."""


class Names:
    """Hands out names that a configuration accepts, each once."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)

    def take(self, *wishes: str) -> str:
        """The first of the wishes that is free, or else the last one with a number."""
        candidates = [clean(wish) for wish in wishes]
        number = 2
        while candidates[0] in self._taken:
            if len(candidates) > 1:
                candidates.pop(0)
            else:
                candidates = [f"{clean(wishes[-1])[: _LONGEST - 4]}_{number}"]
                number += 1
        self._taken.add(candidates[0])
        return candidates[0]


def clean(text: str) -> str:
    """A name as near to the text as possible: lower-case letters, digits and single underscores, a letter first.

    Marks of letters are left out: what comes of ``Größe`` is ``grosse``.
    """
    letters = "".join(
        c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c)
    )
    name = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")
    name = name if name[:1].isalpha() else f"c_{name}".rstrip("_")
    return name[:_LONGEST].rstrip("_")


def stem(column: str) -> str:
    """What a column that points somewhere is about: ``customer`` for ``customer_id`` and ``customerId``."""
    return _POINTER.sub("", column).lower() or column


def scalar(text: str) -> str:
    """A text as YAML, in quotes unless every reader would take it as the same text without them."""
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_MEANING and not text.startswith('"'):
        return text
    return json.dumps(text, ensure_ascii=False)


def flow(entries: dict[str, str]) -> str:
    """A mapping on one line; values are YAML already."""
    return "{" + ", ".join(f"{key}: {value}" for key, value in entries.items()) + "}"
