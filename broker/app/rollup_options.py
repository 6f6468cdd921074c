"""What of the settings concerns rollups, in the terms of those who keep and serve them."""

from __future__ import annotations

from urllib.parse import urlsplit

from broker.config.settings import Settings
from broker.domain.fingerprint import fingerprint
from broker.rollups.mirror_disk import MirrorOptions
from broker.rollups.verify import VerifyOptions


def mirror_options(settings: Settings) -> MirrorOptions:
    """Local copies of segments; databases that share the folder are told apart by their address without the role."""
    address = urlsplit(settings.database.dsn)
    scope = fingerprint(address.netloc.rpartition("@")[2], address.path, address.query)
    rollups = settings.rollups
    return MirrorOptions(rollups.mirror_dir, byte_limit=rollups.mirror_bytes, scope=scope)


def verify_options(settings: Settings) -> VerifyOptions:
    """Comparisons with the source."""
    return VerifyOptions(share=settings.rollups.verify_share)
