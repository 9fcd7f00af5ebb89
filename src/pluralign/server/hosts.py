"""Whether a request names hosts that it may.

Any web page can make a browser send requests to this machine, and can let its own host name resolve to this
machine once it is open (DNS rebinding), so that it may read the answers. Such requests name the page's host
and arrive at the loopback address. Who serves at another address, or within a process, does so on purpose.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pluralign.hosts import host_of, is_loopback, leads_here

__all__ = ["names_known_hosts"]


def names_known_hosts(scope: Any, known: Collection[str]) -> bool:
    """Whether the hosts that a request names, as its own and as that of the page it comes from, are known.

    A request that came in by another address than the loopback one may name any host; so may its page, if
    it is the same host.

    Args:
        scope: of ASGI.
        known: names besides those of this machine; `*` for any.
    """
    if "*" in known:
        return True
    hosts, pages = (
        {host_of(value.decode("latin-1")) for name, value in scope["headers"] if name == header}
        for header in (b"host", b"origin")
    )
    unknown = {host for host in hosts | pages if not (leads_here(host) or host in known)}
    address, _ = scope.get("server") or ("", None)
    if is_loopback(address):
        return not unknown
    return not (unknown & pages) - hosts
