"""Names of hosts: which of them are this machine alone, and which one an address names."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["host_of", "is_loopback", "leads_here"]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def leads_here(host: str) -> bool:
    """Whether clients resolve this name to this machine (RFC 6761, section 6.3)."""
    return is_loopback(host) or host.endswith(".localhost")


def host_of(place: str) -> str:
    """The host of `host`, `host:port` or a URL, in lower case; empty where there is none.

    >>> host_of("Models.lab:8000"), host_of("http://[::1]:8000"), host_of("::1")
    ('models.lab', '::1', '::1')
    """
    if place.count(":") > 1 and not any(mark in place for mark in ("[", "//")):  # of IPv6
        return place.lower()
    try:
        return urlsplit(place if "//" in place else f"//{place}").hostname or ""
    except ValueError:
        return ""
