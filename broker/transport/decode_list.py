"""Lists and resource names: pages, page tokens, names of jobs and datasets.

A page token is opaque to the caller. It holds the position after which the next page begins and a digest of the
request's other fields, so that a token used with other arguments is refused rather than misunderstood.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from broker.domain.errors import Violation, invalid
from broker.transport.decode_values import Found, at_least

DEFAULT_PAGE = 50
MAX_PAGE = 500
_JOB = re.compile(r"tenants/([^/]{1,128})/jobs/([^/]{1,128})")
_DATASET = re.compile(r"datasets/([^/]{1,128})")


@dataclass(frozen=True, slots=True)
class Page:
    """A page to be listed: ``after`` is the position that the token holds, empty for the first page."""

    size: int
    after: tuple[str, ...]
    digest: str

    def token(self, position: Sequence[str]) -> str:
        """The token of the page that begins after ``position``."""
        body = json.dumps([self.digest, *position], separators=(",", ":"))
        return base64.urlsafe_b64encode(body.encode()).decode().rstrip("=")


def page(request: Message, size: int, token: str, found: Found, positions: int) -> Page:
    """The page that a list request asks for; a position has ``positions`` parts."""
    at_least(size, 0, "page_size", found)
    digest = _digest(request)
    after: tuple[str, ...] = ()
    if token:
        after = _after(token, digest, positions)
        if not after:
            text = "is not the next_page_token of a page with these arguments; begin without a token"
            found.append(Violation("page_token", text, "INVALID_TOKEN"))
    return Page(min(size, MAX_PAGE) if size > 0 else DEFAULT_PAGE, after, digest)


def _after(token: str, digest: str, positions: int) -> tuple[str, ...]:
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error):
        return ()
    if not isinstance(body, list) or len(body) != positions + 1 or not all(isinstance(x, str) for x in body):
        return ()
    return tuple(body[1:]) if body[0] == digest else ()


def _digest(request: Message) -> str:
    """Over all fields but the page's own."""
    kept = type(request)()
    kept.CopyFrom(request)
    kept.ClearField("page_size")
    kept.ClearField("page_token")
    return hashlib.sha256(kept.SerializeToString(deterministic=True)).hexdigest()[:16]


def job_name(name: str, path: str, found: Found) -> tuple[str, str]:
    """Tenant and id of a job's resource name."""
    match = _JOB.fullmatch(name)
    if match is None:
        found.append(
            Violation(path, "must be a resource name such as tenants/acme/jobs/01J…", "INVALID_NAME")
        )
        return "", ""
    return match[1], match[2]


def dataset_name(name: str, path: str) -> str:
    """Dataset of a resource name.

    Raises:
        BrokerError: INVALID_REQUEST.
    """
    match = _DATASET.fullmatch(name)
    if match is None:
        text = "must be a resource name such as datasets/flights"
        raise invalid([Violation(path, text, "INVALID_NAME")])
    return match[1]
