"""Fixtures for unit tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3 import BUCKET, s3_environment, s3_server


@pytest.fixture(scope="package")
def bucket() -> Iterator[str]:
    """Address of a bucket of a local server, which clients find by the environment."""
    with s3_server() as variables, s3_environment(variables):
        yield f"s3://{BUCKET}"
