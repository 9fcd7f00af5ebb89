"""Requests to a sampling server: JSON out, JSON in; a key goes to that server alone, and into no message.

In: an address, a key, bodies. Out: answers, or an error in which the key is hidden even if the server
sends it back. Redirects are not followed: they would take key and prompts to another place. Only the standard
library is used.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from pluralign.errors import ConfigError, RunError
from pluralign.hosts import host_of, leads_here

__all__ = ["Requests", "check_address"]

_TRIES = 5
_BUSY = (408, 429, 500, 502, 503, 504)
_SHOWN = 300  # characters of a refusal
_LONGEST = 1000  # characters of a message
_READ = 65_536  # bytes of it


class Requests:
    """Sends requests to one server; a busy or unreachable one is asked again.

    Args:
        url: base address, with or without `/v1`.
        key: sent as a bearer token; None for none. Blanks around it are removed.
        key_over_http: send it unencrypted to another machine too.
        timeout: seconds allowed for one request.
        patience: seconds to wait after a first failed attempt; doubled each time.

    Raises:
        ConfigError: the address is not valid, the key cannot be sent, or it would be sent unencrypted.
    """

    def __init__(
        self, url: str, key: str | None, *, key_over_http: bool, timeout: float, patience: float
    ) -> None:
        self._key = _checked_key(key)
        check_address(url, has_key=self._key is not None, key_over_http=key_over_http)
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._timeout = timeout
        self._patience = patience
        # A proxy that the environment names has no way to this machine, and would see the key.
        direct = [urllib.request.ProxyHandler({})] if leads_here(host_of(url)) else []
        self._opener = urllib.request.build_opener(_NoRedirects, *direct)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One answer: to a GET, or with a body to a POST.

        Raises:
            RunError: the server refuses, redirects, or does not respond after 5 attempts.
        """
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        for attempt in range(_TRIES):
            try:
                with self._opener.open(request, timeout=self._timeout) as response:
                    answer = json.load(response)
                if not isinstance(answer, dict):
                    raise self.error(f"{path} returned {type(answer).__name__} instead of an object")
                return answer
            except urllib.error.HTTPError as refusal:
                problem = self._refusal(path, refusal)
            except ValueError as error:
                problem = f"its response is not JSON: {error}"
            except (OSError, http.client.HTTPException) as error:  # no route, refused, reset, timed out
                problem = str(getattr(error, "reason", error))
            if attempt + 1 < _TRIES:
                time.sleep(self._patience * 2**attempt)
        raise self.error(f"{path} did not respond after {_TRIES} attempts: {problem}")

    def error(self, problem: str) -> RunError:
        """An error of this server; whatever it sent is quoted without the key."""
        text = self._without_key(problem)[:_LONGEST]
        return RunError(f"{self.url}{'' if text.startswith('/') else ' '}{text}")

    def _refusal(self, path: str, refusal: urllib.error.HTTPError) -> str:
        """What a busy server answers.

        Raises:
            RunError: it is not busy, but refuses or redirects.
        """
        with refusal:
            text = self._without_key(_sent(refusal))
        if 300 <= refusal.code < 400:
            raise self.error(
                f"{path} redirects to {_place(refusal.headers.get('Location'))}; redirects are not followed, "
                "since they would take the prompts and the key elsewhere: pass the final address as server"
            ) from None
        problem = f"{refusal.code} {text[:_SHOWN]}"
        if refusal.code not in _BUSY:
            raise self.error(f"{path} refused the request: {problem}") from None
        return problem

    def _without_key(self, text: str) -> str:
        if self._key is None:
            return text
        for spelling in {self._key, urllib.parse.quote(self._key, safe=""), json.dumps(self._key)[1:-1]}:
            text = text.replace(spelling, "[key]")
        return text


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        """None: the answer that redirects is an error."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def check_address(url: str, *, has_key: bool = False, key_over_http: bool = False) -> None:
    """Whether requests, and a key, can be sent to an address.

    Args:
        url: the address.
        has_key: whether a key would be sent.
        key_over_http: whether it may go unencrypted to another machine.

    Raises:
        ConfigError: not an http(s) address of a host alone, with a path; or http to another machine with a
            key. The message does not repeat a password.
    """
    example = "allowed: an address such as http://localhost:8000"
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"server: received {_bare(url)!r}; {example}")
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"server: received {_bare(url)!r}, which is not an address; {example}") from (
            None if "@" in url else error
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"server: received {_bare(url)!r} with a user, a password or a query; {example}. A key belongs "
            "into the environment variable PLURALIGN_SERVER_KEY (api_key in Python)"
        )
    if not host or any(not 32 < ord(letter) < 127 for letter in url):
        raise ConfigError(f"server: received {url!r}; {example}")
    if has_key and parts.scheme == "http" and not key_over_http and not leads_here(host_of(url)):
        raise ConfigError(
            f"server: {url} is not encrypted, so others on the network could read the key; use https, unset "
            "PLURALIGN_SERVER_KEY, or pass --key_over_http true (key_over_http=True in Python) if the "
            "network is yours"
        )


def _checked_key(key: str | None) -> str | None:
    """The key without blanks around it; None for an empty one.

    Raises:
        ConfigError: a header cannot hold it. The message does not repeat it.
    """
    key = (key or "").strip()
    odd = sum(not 32 < ord(letter) < 127 for letter in key)
    if odd:
        raise ConfigError(
            f"the server's key has {odd} line breaks, blanks or characters beyond ASCII, which no header can "
            "hold; set PLURALIGN_SERVER_KEY (api_key in Python) to the key alone"
        )
    return key or None


def _bare(url: str) -> str:
    """An address as a message may show it: only its scheme where it has a user, a password or a query."""
    if not set("@?#") & set(url):
        return url
    scheme, mark, _ = url.partition("://")
    return f"{scheme}{mark}..." if mark else "..."


def _place(location: str | None) -> str:
    """Scheme and host of where a redirect leads."""
    try:
        parts = urllib.parse.urlsplit(location or "")
    except ValueError:
        return "something that is not an address"
    if not parts.netloc:
        return "another path of itself"
    return f"{parts.scheme or 'http'}://{parts.netloc.rpartition('@')[2]}"


def _sent(refusal: urllib.error.HTTPError) -> str:
    try:
        return refusal.read(_READ).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return "(without an explanation)"
