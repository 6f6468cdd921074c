"""Names of jobs on the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

DEFAULT_TENANT = "default"


def job_name_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument NAME: a resource name, or the id alone of a job of the default tenant."""
    return click.argument("name", callback=_complete)(command)


def short_name(name: str) -> str:
    """The shortest text that `job_name_argument` takes for a job."""
    return name.removeprefix(f"tenants/{DEFAULT_TENANT}/jobs/")


def full_name(given: str) -> str:
    """The resource name that a short one stands for."""
    return given if "/" in given else f"tenants/{DEFAULT_TENANT}/jobs/{given}"


def _complete(_context: click.Context, _parameter: click.Parameter, given: str) -> str:
    return full_name(given)
