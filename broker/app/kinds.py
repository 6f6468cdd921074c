"""Loads the kinds of job that operators bring."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from broker.app.loop import StartError
from broker.config.parameters import parameter_parser
from broker.jobs.custom import Registered


def custom_kinds(configured: Mapping[str, str]) -> Mapping[str, Registered]:
    """The kinds of ``jobs.kinds``, by the name of their jobs (``custom:{name}``).

    Raises:
        StartError: One cannot be imported, or is not a kind.
    """
    found = [_loaded(name, place) for name, place in configured.items()]
    return {f"custom:{each.name}": each for each in found}


def kind_problems(configured: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """What is wrong with kinds: the name, a text, and whether it is only that this machine cannot import it."""
    for name, place in configured.items():
        try:
            _loaded(name, place)
        except _MissingError as error:
            yield name, str(error), True
        except StartError as error:
            yield name, str(error), False


class _MissingError(StartError):
    """The module, or the name in it, is not found."""


def _loaded(name: str, place: str) -> Registered:
    module, _, attribute = place.partition(":")
    try:
        kind: Any = getattr(importlib.import_module(module), attribute)
        kind = kind() if isinstance(kind, type) else kind
    except (ImportError, AttributeError) as error:
        text = f"jobs.kinds.{name}: {place!r} cannot be imported: {error}. Is its folder on PYTHONPATH?"
        raise _MissingError(text) from error
    except Exception as error:  # whatever somebody else's module raises while it is loaded
        shown = f"{type(error).__name__}: {error}"
        raise StartError(f"jobs.kinds.{name}: {place!r} does not load: {shown}. Mend its code.") from error
    if not (callable(getattr(kind, "run", None)) and isinstance(getattr(kind, "parameters", None), type)):
        text = f"jobs.kinds.{name}: {place!r} is no kind of job: it needs `parameters`, a type, and `run`."
        raise StartError(text)
    return Registered(name, kind, parameter_parser(kind.parameters))
