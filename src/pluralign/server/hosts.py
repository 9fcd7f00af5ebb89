"""Host names: which ones are this machine alone, and which ones a request names.

Any web page can make a browser send requests to this machine, and can let its own host name resolve to this
machine once it is open (DNS rebinding), so that it may read the answers. Such requests name the page's host
and arrive at the loopback address. Who serves at another address, or within a process, does so on purpose.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

__all__ = ["host_of", "is_loopback", "names_known_hosts"]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


def _leads_here(host: str) -> bool:
    """Whether browsers resolve this name to this machine (RFC 6761, section 6.3)."""
    return is_loopback(host) or host.endswith(".localhost")


def names_known_hosts(scope: Any, known: Collection[str]) -> bool:
    """Whether the hosts that a request names, as its own and as that of the page it comes from, are known.

    A request that came in by another address than the loopback one may name any host; so may its page, if
    it is the same host.

    Args:
        scope: of ASGI.
        known: names besides those of this machine; `*` for any.
    """
    address, _ = scope.get("server") or ("", None)
    if "*" in known:
        return True
    hosts, pages = (
        [host_of(value.decode("latin-1")) for name, value in scope["headers"] if name == header]
        for header in (b"host", b"origin")
    )
    ours = {host for host in hosts + pages if _leads_here(host) or host in known}
    return (not is_loopback(address) or ours >= {*hosts}) and {*pages} <= ours | {*hosts}
