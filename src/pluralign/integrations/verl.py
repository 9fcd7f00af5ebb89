"""Rewards of a pluralign model for verl: a reward manager, or `compute_score`.

This file needs the standard library only (and verl, for the reward manager), so it can be copied into verl's
environment, under another name than verl.py, which would hide verl itself. Where pluralign is installed there
too, verl finds the manager by itself, by the name `pluralign`:

    reward.reward_manager.name=pluralign                                    # installed: a plug-in of verl

    reward.reward_manager.source=importlib                                  # copied
    reward.reward_manager.module.path=/path/to/pluralign_reward.py
    reward.reward_manager.name=RewardManager

The manager gets the prompt as messages. `compute_score` does not; it reads it from `extra_info`, where the
data set must have put it:

    reward.custom_reward_function.path=/path/to/pluralign_reward.py         # name=compute_score
    +reward.custom_reward_function.reward_kwargs.url=http://rewards:8000

Rewards come over HTTP from `pluralign serve`, since verl starts eight reward workers, and each would hold a
model. With `model=FOLDER` the model is loaded into this process instead: calls from many threads are scored
together. Settings are keyword arguments (`reward_kwargs`, also of the manager), or come from the environment:

    url              PLURALIGN_URL              address of the server, http://127.0.0.1:8000 by default
    token            PLURALIGN_TOKEN            its token, if it has one
    token_over_http  PLURALIGN_TOKEN_OVER_HTTP  1 sends it unencrypted to another machine too
    risk             PLURALIGN_RISK             risk measure, e.g. cvar:0.1; the server's own, or mean
    timeout          PLURALIGN_TIMEOUT          seconds allowed for one request, 180 by default
    patience         PLURALIGN_PATIENCE         seconds of retries while a server is busy or unreachable, 600
    model            PLURALIGN_MODEL            model folder to load into this process instead
    prompt_key       PLURALIGN_PROMPT_KEY       where `compute_score` finds the prompt in extra_info: prompt

Contract: verl 0.9.1, `verl/experimental/reward_loop`.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ipaddress
import json
import math
import os
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Client", "RewardError", "RewardManager", "compute_score", "compute_score_async"]  # noqa: F822

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

_T = TypeVar("_T")
_AT_ONCE = 256  # requests of one reward worker that wait for the server
_OF_CLIENT = ("url", "token", "token_over_http", "timeout", "patience")
_OWN = ("risk", "model", "prompt_key")

Messages = list[dict[str, Any]]


def compute_score(
    data_source: Any = None,
    solution_str: str = "",
    ground_truth: Any = None,
    extra_info: Mapping[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **reward_kwargs: Any,
) -> dict[str, float]:
    """The reward of one response, for `reward.custom_reward_function`; verl calls it from threads.

    Args:
        data_source: not used.
        solution_str: the response.
        ground_truth: not used.
        extra_info: holds the prompt, as text or messages, under `prompt_key`.
        reward_router_address: not used; the address of the server is a setting.
        reward_model_tokenizer: not used.
        reward_kwargs: settings, as at the top of the file.

    Returns:
        {"score": utility}.

    Raises:
        RewardError: extra_info has no prompt, a setting is unknown, or there is no reward.
    """
    del data_source, ground_truth, reward_router_address, reward_model_tokenizer
    settings = _settings(reward_kwargs)
    conversation = _conversation(extra_info, solution_str, settings["prompt_key"] or "prompt")
    return {"score": _score(conversation, settings)}


async def compute_score_async(**arguments: Any) -> dict[str, float]:
    """`compute_score` as a coroutine, with more requests at a time than verl has threads.

    Args:
        arguments: those of `compute_score`.

    Raises:
        RewardError: as in `compute_score`.
    """
    return await _in_thread(lambda: compute_score(**arguments))


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: those that are given, then those of the environment.

    Raises:
        RewardError: one is unknown.
    """
    if unknown := set(given) - {*_OF_CLIENT, *_OWN}:
        raise RewardError(
            f"unknown setting {', '.join(sorted(unknown))}; allowed: {', '.join((*_OF_CLIENT, *_OWN))}"
        )
    own = {name: given.get(name) or os.environ.get(f"PLURALIGN_{name.upper()}") for name in _OWN}
    return {name: given[name] for name in _OF_CLIENT if given.get(name) is not None} | own


def _conversation(extra_info: Mapping[str, Any] | None, response: str, key: str) -> Messages:
    """The prompt of extra_info and the response, as messages.

    Raises:
        RewardError: there is no prompt.
    """
    prompt = (extra_info or {}).get(key)
    if isinstance(prompt, str) and prompt.strip():
        return _with_response([{"role": "user", "content": prompt}], response)
    if prompt is not None and not isinstance(prompt, str) and len(prompt):
        return _with_response(prompt, response)
    raise RewardError(
        f"extra_info has no {key!r}; it has {sorted(map(str, extra_info or {}))}. The reward needs the "
        "prompt: add it to the data set as text or messages, name another key (prompt_key), or use the "
        "reward manager, which gets it from verl"
    )


def _with_response(prompt: Any, response: str) -> Messages:
    """Messages of any sequence (verl has arrays of them), followed by the response.

    Raises:
        RewardError: one is not a message with text.
    """
    messages = []
    for one in prompt:
        role, content = (one.get("role"), one.get("content")) if isinstance(one, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise RewardError(
                f"the prompt has {str(one)[:80]!r}; allowed: messages with a role and a text. Images and "
                "other parts cannot be scored"
            )
        messages.append({"role": role, "content": content})
    return [*messages, {"role": "assistant", "content": response}]


def _score(conversation: Messages, settings: Mapping[str, Any]) -> float:
    """The utility of one conversation, from the server or the model in this process."""
    if settings["model"]:
        try:
            from pluralign.integrations.local_model import local_model

            return local_model(settings["model"], settings["risk"] or "mean").score(conversation)
        except Exception as error:
            raise RewardError(f"{settings['model']}: {type(error).__name__}: {error}") from error
    body: dict[str, Any] = {"conversations": [conversation]} | (
        {"risk": settings["risk"]} if settings["risk"] else {}
    )
    asked = client(**_of_client(settings))
    return _numbers(asked.post("/v1/score", body), "scores", 1)[0]


def _of_client(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name in _OF_CLIENT}


_slots = threading.BoundedSemaphore(_AT_ONCE)


async def _in_thread(work: Callable[[], _T]) -> _T:
    """What it returns, waited for by a thread that does not keep the process from ending.

    The threads of an executor do: with a server that is gone, for as long as `patience`.
    """
    found: Future[_T] = Future()

    def run() -> None:
        with _slots:
            if found.set_running_or_notify_cancel():
                try:
                    found.set_result(work())
                except BaseException as error:
                    found.set_exception(error)

    threading.Thread(target=run, name="pluralign", daemon=True).start()
    return await asyncio.wrap_future(found)


def _manager_class() -> type:
    """The reward manager; made when it is asked for, so that this file needs no verl."""
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

    class RewardManager(RewardManagerBase):
        """verl's reward manager that asks a pluralign model; settings as at the top of the file.

        They are read from `reward.reward_kwargs` and from `reward.custom_reward_function.reward_kwargs`.
        """

        def __init__(
            self,
            config: Any,
            tokenizer: Any,
            compute_score: Any = None,
            reward_router_address: str | None = None,
            reward_model_tokenizer: Any = None,
        ) -> None:
            super().__init__(config, tokenizer, compute_score)
            del reward_router_address, reward_model_tokenizer
            given: dict[str, Any] = {}
            reward = config.get("reward") or {}
            for place in (reward.get("custom_reward_function") or {}, reward):
                given |= dict(place.get("reward_kwargs") or {})
            self.settings = _settings(given)
            if not self.settings["model"]:
                client(**_of_client(self.settings))  # whose address and token are checked

        async def run_single(self, data: Any) -> dict[str, Any]:
            """The reward of the last sequence, which ends the trajectory.

            Raises:
                RewardError: the trajectory has several turns, whose messages verl does not pass on, or there
                    is no reward.
            """
            item = data[-1:][0]
            turns = item.non_tensor_batch.get("__num_turns__")
            if turns is not None and int(turns) > 2:
                raise RewardError(
                    f"received a trajectory of {int(turns)} turns; allowed: 2, a prompt and a response. verl "
                    "passes on one text for all turns, of which it is not certain who said what"
                )
            if "raw_prompt" not in item.non_tensor_batch:
                raise RewardError("verl passed on no raw_prompt; set data.return_raw_chat=True")
            ids = item.batch["responses"]
            length = int(item.batch["attention_mask"][-ids.shape[-1] :].sum())
            text = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
            conversation = _with_response(item.non_tensor_batch["raw_prompt"], text)
            score = await _in_thread(lambda: _score(conversation, self.settings))
            return {"reward_score": score, "reward_extra_info": {"score": score}}

    return RewardManager


def __getattr__(name: str) -> Any:
    if name == "RewardManager":
        with _manager_lock:
            if name not in globals():
                globals()[name] = _manager_class()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_manager_lock = threading.Lock()
