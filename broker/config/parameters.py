"""Parameters of jobs, from JSON values to the type that a kind declares, with all violations at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from broker.domain.errors import Violation, invalid

PATH = "spec.custom.parameters"


def parameter_parser(of: type[Any]) -> Callable[[Mapping[str, object]], Any]:
    """Makes values of the type (a dataclass, or a model of pydantic); what does not fit is INVALID_REQUEST.

    JSON has no whole numbers of its own, so 5.0 is one where a whole number is declared. Fields that the type does not
    have are violations too, unless it says otherwise.
    """
    adapter = TypeAdapter(of)
    known = frozenset(getattr(of, "model_fields", None) or getattr(of, "__dataclass_fields__", {}))

    def parse(given: Mapping[str, object]) -> Any:
        found = [
            Violation(
                f"{PATH}.{name}",
                f"is not a parameter of this kind; it has {', '.join(sorted(known))}",
                "UNKNOWN",
            )
            for name in sorted(given.keys() - known)
        ]
        try:
            value = adapter.validate_python({k: v for k, v in given.items() if k in known})
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False, include_input=False):
                path = ".".join([PATH, *(str(piece) for piece in each["loc"])])
                found.append(Violation(path, each["msg"], each["type"].upper()))
            raise invalid(found) from None
        if found:
            raise invalid(found)
        return value

    return parse
