"""``broker key``: a new API key, and what the configuration keeps of it."""

from __future__ import annotations

import secrets

import click

from broker.cli.exits import Exit, fail

_RANDOM_BYTES = 24


@click.command()
@click.argument("name")
@click.option("--tenant", default="", help="Whose it is.  [default: NAME, with hyphens]")
@click.option("--grant", "grants", multiple=True, metavar="GRANT", help="`sql`, `admin` or `*`. Repeatable.")
def key(name: str, tenant: str, grants: tuple[str, ...]) -> None:
    """Make an API key for the caller NAME.

    \b
      broker key dashboards --tenant web
      KEY=$(broker key nightly --grant admin 2> entry.yaml)

    The key is written to standard output, for the caller, and is kept nowhere. What goes into the configuration, with a
    hash of the key, is written to standard error. A running broker takes it on when it is started again.
    """  # noqa: D301 - click keeps the lines of a paragraph that begins with this character
    import json

    from pydantic import ValidationError

    from broker.adapters.auth_keys import digest, make_key
    from broker.config.schema_access import AuthConfig

    made = make_key(secrets.token_bytes(_RANDOM_BYTES))
    entry = {"hashes": [f"sha256:{digest(made).hex()}"], "tenant": tenant or name.replace("_", "-")}
    if grants:
        entry["grants"] = list(grants)
    try:
        AuthConfig.model_validate({"api_keys": {name: entry}})
    except ValidationError as error:
        fail("\n".join(_violation(each["loc"][2:], each["msg"]) for each in error.errors()), Exit.USAGE)
    click.echo(made)
    # JSON is YAML, and needs no library that knows which texts YAML takes for something else
    click.echo(f"auth:\n  api_keys:\n    {name}: {json.dumps(entry)}", err=True)


def _violation(place: tuple[int | str, ...], text: str) -> str:
    """What the configuration would not take, and where it came from; a key of a mapping is the caller's name."""
    return f"{'NAME' if place == ('[key]',) else '.'.join(map(str, place))}: {text}."
