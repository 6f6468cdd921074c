"""The headers by which a trace goes on elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator


class Carrier(Mapping[str, str]):
    """The W3C headers of a context, found when somebody looks for the first time."""

    __slots__ = ("_context", "_found", "_propagator")

    def __init__(self, propagator: TextMapPropagator, context: Context) -> None:
        self._propagator, self._context = propagator, context
        self._found: dict[str, str] | None = None

    def _headers(self) -> dict[str, str]:
        if self._found is None:
            self._found = {}
            self._propagator.inject(self._found, self._context)
        return self._found

    def __getitem__(self, name: str) -> str:
        return self._headers()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers())

    def __len__(self) -> int:
        return len(self._headers())
