"""From the schema to principals: who may call, with which grants, for which tenant."""

from __future__ import annotations

from broker.config.document import Path
from broker.config.findings import Severity
from broker.config.report import Report
from broker.config.schema import Config
from broker.config.schema_access import IdentityConfig, TenantConfig
from broker.config.settings import ApiKey, AuthSettings
from broker.config.shape import Removed
from broker.domain.model import Model
from broker.domain.principal import Criticality, Principal
from broker.policy.conditions import nearest

ANONYMOUS = "anonymous"
KNOWN_GRANTS = ("*", "admin", "explain.statements", "jobs.read_all", "sql")


def build_auth(config: Config, model: Model, removed: Removed, local: bool, report: Report) -> AuthSettings:
    """The callers; ``local`` says that the server listens on loopback only.

    A tenant that is not declared is an error, a grant that nothing asks for a warning.
    """
    asked = {grant for dataset in model.datasets.values() for grant in dataset.grants}
    asked |= {
        g for dataset in model.datasets.values() for policy in dataset.row_policies for g in policy.unless
    }
    known = [*KNOWN_GRANTS, *sorted(asked)]
    keys: list[ApiKey] = []
    owners: dict[str, str] = {}
    for name, given in config.auth.api_keys.items():
        path: Path = ("auth", "api_keys", name)
        for i, digest in enumerate(given.hashes):
            owner = owners.setdefault(digest, name)
            if owner != name or digest in given.hashes[:i]:
                report(
                    (*path, "hashes", i),
                    f"is the hash of a key of {owner!r} already; every caller has its own",
                )
        principal = _principal(name, given, config, path, removed, known, report)
        keys.append(
            ApiKey(tuple(bytes.fromhex(digest.removeprefix("sha256:")) for digest in given.hashes), principal)
        )
    anonymous = config.auth.anonymous
    allowed = not config.auth.api_keys if anonymous.enabled is None else anonymous.enabled
    if not removed.within(("auth",)):
        if not allowed and not keys:
            report(
                ("auth",),
                "nobody is let in: declare `auth.api_keys`, or enable `auth.anonymous`",
                Severity.WARNING,
            )
        elif not local and not keys:
            text = "callers from other machines are refused as long as `auth.api_keys` declares nobody"
            report(("server", "host"), text, Severity.WARNING)
    if not allowed:
        return AuthSettings(None, tuple(keys))
    caller = _principal(ANONYMOUS, anonymous, config, ("auth", "anonymous"), removed, known, report)
    return AuthSettings(caller, tuple(keys))


def _principal(
    name: str,
    given: IdentityConfig,
    config: Config,
    path: Path,
    removed: Removed,
    known: list[str],
    report: Report,
) -> Principal:
    if (
        config.tenants
        and given.tenant not in config.tenants
        and not removed.may_hold(("tenants", given.tenant))
    ):
        at = (*path, "tenant") if "tenant" in given.model_fields_set else path
        report(at, f"there is no tenant {given.tenant!r}{nearest(given.tenant, list(config.tenants))}")
    for i, grant in enumerate(given.grants):
        if grant not in known:
            hint = nearest(grant, known)
            report((*path, "grants", i), f"nothing asks for the grant {grant!r}{hint}", Severity.WARNING)
    tenant = config.tenants.get(given.tenant, TenantConfig())
    return Principal(
        name=name,
        tenant=given.tenant,
        grants=frozenset(given.grants),
        criticality=min(Criticality[given.criticality.name], Criticality[tenant.criticality.name]),
        attributes={**tenant.attributes, **given.attributes},
    )
