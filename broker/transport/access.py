"""One line in the log for every call."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from broker.domain.principal import Principal

ACCESS_LOGGER = "querybroker.access"
_LOG = logging.getLogger(ACCESS_LOGGER)


def log_call(
    method: str,
    code: str,
    seconds: float,
    request_id: str,
    principal: Principal | None,
    notes: Mapping[str, str],
    reason: str = "",
) -> None:
    """Writes the line; its parts are attributes of the record, so a formatter may write them as JSON."""
    if not _LOG.isEnabledFor(logging.INFO):
        return
    extra = {
        "rpc_method": method,
        "rpc_status": code,
        "request_id": request_id,
        "duration_ms": round(seconds * 1000, 3),
        "principal": principal.name if principal is not None else "",
        "tenant": principal.tenant if principal is not None else "",
        "reason": reason,
        "answer_source": notes.get("answer-kind", ""),
        "degraded_reason": notes.get("degraded-reason", ""),
    }
    _LOG.info("%s %s", method, code, extra={key: value for key, value in extra.items() if value != ""})
