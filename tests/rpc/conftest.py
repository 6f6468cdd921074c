"""Fixtures of the tests over real channels."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.rpc.serving import Serving, serving


@pytest.fixture
async def broker() -> AsyncIterator[Serving]:
    """A server with default options."""
    async with serving() as running:
        yield running
