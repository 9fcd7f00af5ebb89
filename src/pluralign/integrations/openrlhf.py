"""Rewards of a pluralign server for OpenRLHF, as a file: `--reward.remote_url /path/to/openrlhf.py`.

This file needs the standard library only, so it can be copied into OpenRLHF's environment. OpenRLHF can also
ask the server itself (`--reward.remote_url http://host:8000/get_reward`); this file adds what its client
lacks: a token, a risk measure of this run, patience while a server restarts, and errors on stderr.

In: texts as OpenRLHF decodes them. The server inverts the policy's chat template, so it is started with
`pluralign serve MODEL --policy_tokenizer POLICY`. Settings come from the environment:

    PLURALIGN_URL              address of the server, http://127.0.0.1:8000 by default
    PLURALIGN_TOKEN            its token, if it has one
    PLURALIGN_TOKEN_OVER_HTTP  1 sends it unencrypted to another machine too
    PLURALIGN_RISK             risk measure of this run, e.g. cvar:0.1; the server's own by default
    PLURALIGN_TIMEOUT          seconds allowed for one request, 180 by default
    PLURALIGN_PATIENCE         seconds of retries while the server is busy or unreachable, 600 by default

Contract: OpenRLHF 0.11.2, `openrlhf/utils/agent.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import math
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

__all__ = ["Client", "RewardError", "reward_func"]

# --- client: the same lines in openrlhf.py and verl.py, since each of them is copied alone -----------

_NAMES = ("URL", "TOKEN", "TOKEN_OVER_HTTP", "TIMEOUT", "PATIENCE")
_VARIABLES = tuple(f"PLURALIGN_{name}" for name in _NAMES)
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 30.0  # seconds between two attempts
_SHOWN = 500  # characters of a refusal


class RewardError(RuntimeError):
    """There is no reward; the message says what was requested, what the server answered and what to do."""


class Client:
    """Sends requests to a pluralign server, and retries while it is busy or unreachable.

    Args:
        url: address of the server; None for PLURALIGN_URL, or http://127.0.0.1:8000.
        token: sent as a bearer token; None for PLURALIGN_TOKEN, if there is one.
        token_over_http: whether it may go unencrypted to another machine; None for PLURALIGN_TOKEN_OVER_HTTP.
        timeout: seconds allowed for one request; None for PLURALIGN_TIMEOUT, or 180.
        patience: seconds after which a busy or absent server is given up; None for PLURALIGN_PATIENCE, or
            600.

    Raises:
        RewardError: the address or a number is not valid, or the token would be sent unencrypted.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        token_over_http: bool | None = None,
        timeout: float | None = None,
        patience: float | None = None,
    ) -> None:
        self.url = (url or os.environ.get("PLURALIGN_URL") or "http://127.0.0.1:8000").rstrip("/")
        self._token = (token or os.environ.get("PLURALIGN_TOKEN") or "").strip()
        if token_over_http is None:
            token_over_http = os.environ.get("PLURALIGN_TOKEN_OVER_HTTP", "0").lower() not in (
                "",
                "0",
                "false",
            )
        self._timeout = _positive("timeout", timeout, 180.0)
        self._patience = _positive("patience", patience, 600.0)
        try:
            parts = urllib.parse.urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            parts, host = urllib.parse.SplitResult("", "", "", "", ""), None
        if parts.scheme not in ("http", "https") or not host or "@" in parts.netloc or parts.query:
            raise RewardError(
                "PLURALIGN_URL (url) is not the address of a server; allowed: one such as "
                "http://127.0.0.1:8000, without user, password or query"
            )
        loopback = _is_loopback(host)
        if self._token and parts.scheme == "http" and not loopback and not token_over_http:
            raise RewardError(
                f"{self.url} is not encrypted, so others on the way could read the token; use https, or set "
                "PLURALIGN_TOKEN_OVER_HTTP=1 if the network is yours"
            )
        if any(not 32 < ord(letter) < 127 for letter in self._token):
            raise RewardError("PLURALIGN_TOKEN (token) has characters that no header can hold")
        # A proxy that the environment names has no way to this machine, and would see the token.
        direct = [urllib.request.ProxyHandler({})] if loopback else []
        self._opener = urllib.request.build_opener(_NoRedirects, *direct)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            RewardError: the server refuses it, or was busy or absent for `patience` seconds.
        """
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = json.dumps(body).encode()
        started, wait = time.monotonic(), 0.5
        while True:
            least = 0.0
            try:
                request = urllib.request.Request(self.url + path, data=data, headers=headers)
                with self._opener.open(request, timeout=self._timeout) as response:
                    answer = json.load(response)
                if not isinstance(answer, dict):
                    raise RewardError(
                        f"{self.url}{path} answered {type(answer).__name__} instead of an object"
                    )
                return answer
            except urllib.error.HTTPError as refusal:
                problem, least = self._refused(path, refusal)
            except ValueError as error:
                problem = f"its answer is not JSON: {error}"
            except (OSError, http.client.HTTPException) as error:  # no route, refused, reset, timed out
                problem = str(getattr(error, "reason", error)) or type(error).__name__
            # Many clients that lost the same server should not come back at the same moment.
            pause = max(least, wait * random.uniform(0.5, 1.0))
            if time.monotonic() - started + pause > self._patience:
                raise RewardError(
                    f"{self.url}{path} gave no answer for {self._patience:g} seconds; the last problem: "
                    f"{problem}"
                )
            time.sleep(pause)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _refused(self, path: str, refusal: urllib.error.HTTPError) -> tuple[str, float]:
        """The message of a busy server, and how long to wait before the next attempt.

        Raises:
            RewardError: it is not busy, but refuses or redirects.
        """
        with refusal:
            try:
                text = refusal.read(65_536).decode(errors="replace")
            except (OSError, http.client.HTTPException):
                text = ""
        if self._token:
            text = text.replace(self._token, "[token]")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            text = json.loads(text)["error"]["message"]
        problem = f"{refusal.code} {text[:_SHOWN]}".strip()
        if refusal.code not in _BUSY:
            advice = ": set PLURALIGN_TOKEN" if refusal.code == 401 else ""
            raise RewardError(f"{self.url}{path} refused the request: {problem}{advice}") from None
        try:
            return problem, min(float(refusal.headers.get("Retry-After") or 0.0), 10 * _LONGEST_WAIT)
        except ValueError:  # a date
            return problem, 0.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> None:
        """None: the answer that redirects is an error, since it would take texts and token elsewhere."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _positive(name: str, given: Any, default: float) -> float:
    """A number of seconds from an argument, the environment or the default."""
    variable = f"PLURALIGN_{name.upper()}"
    value = os.environ.get(variable, default) if given is None else given
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (number > 0 and math.isfinite(number)):
        raise RewardError(f"{variable} ({name}): received {value!r}; allowed: a positive number of seconds")
    return number


def _numbers(answer: dict[str, Any], key: str, count: int) -> list[float]:
    """The numbers of an answer, one per text that was sent.

    Raises:
        RewardError: there are not so many, or one is not a finite number.
    """
    values = answer.get(key)
    found = values if isinstance(values, list) else []
    good = all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in found
    )
    if not good or len(found) != count:
        raise RewardError(
            f"the server's answer has no {key!r} with {count} finite numbers; is it a pluralign server?"
        )
    return [float(one) for one in found]


_clients: dict[Any, Client] = {}
_clients_lock = threading.Lock()


def client(**settings: Any) -> Client:
    """The client of these settings and this environment; made once."""
    key = (tuple(sorted(settings.items())), tuple(os.environ.get(name) for name in _VARIABLES))
    with _clients_lock:
        if key not in _clients:
            _clients[key] = Client(**settings)
        return _clients[key]


# --- end of the client -------------------------------------------------------------------------------------


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]
) -> dict[str, list[float] | dict[str, list[float]]]:
    """What OpenRLHF calls, from several threads, with one text at a time.

    Args:
        queries: prompts with their responses, decoded with special tokens.
        prompts: the parts before the responses.
        labels: not used by the reward model.

    Returns:
        `rewards` and `scores`, one utility per query, and `extra_logs`, numbers that OpenRLHF logs.

    Raises:
        RewardError: there is no reward. OpenRLHF goes on without one and fails later, so the reason is also
            printed on stderr.
    """
    try:
        risk = os.environ.get("PLURALIGN_RISK")
        path = "/get_reward" + (f"?risk={urllib.parse.quote(risk, safe='')}" if risk else "")
        body = {"query": list(queries), "prompts": list(prompts), "labels": [str(one) for one in labels]}
        answer = client().post(path, body)
        rewards = _numbers(answer, "rewards", len(queries))
        logs = answer.get("extra_logs")
        kept = {name: _numbers(logs, name, len(queries)) for name in logs} if isinstance(logs, dict) else {}
        return {"rewards": rewards, "scores": rewards, "extra_logs": kept}
    except RewardError as error:
        print(f"pluralign: no reward: {error}", file=sys.stderr, flush=True)
        raise
