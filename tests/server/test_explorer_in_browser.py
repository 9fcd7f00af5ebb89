"""The explorer in Debian's chromium, clicked and typed: ranking, keyboard, hostile texts, token, size."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pluralign as pl
from fake_backbone import talk
from fake_models import mixed_model
from http_server import Server, running
from pluralign.server import ServerConfig, create_app
from pluralign.server.app import build

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install -e '.[browser]'"
)

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
RESPONSES = ("-1.5 0.3 first", "1.0 1.4 second", "0.7 0.2 third")
DRAWN = (
    "document.querySelectorAll('.chart').length > 0 && "
    "[...document.querySelectorAll('.chart')].every(one => one.dataset.drawn && one.querySelector('svg'))"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def model() -> pl.RewardModel:
    return mixed_model([0.05, 0.3, 0.5, 0.7, 0.95])


@pytest.fixture(scope="module")
def server(model: pl.RewardModel) -> Iterator[Server]:
    with running(build(model, ServerConfig(), folder="runs/model")) as found:
        yield found


@contextmanager
def opened(browser: Any, server: Server, *, refused: bool = False, **options: Any) -> Iterator[Any]:
    """The page; at its end nothing was logged as an error, and nothing asked for from elsewhere.

    Args:
        refused: whether some requests were refused on purpose, which chromium logs.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda one: said.append(f"{one.type}: {one.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{server.port}/")
    try:
        yield page
    finally:
        context.close()
    if refused:
        said = [one for one in said if not re.search(r"the server responded with a status of 4\d\d", one)]
    assert said == []
    assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{server.port}/", "blob:"))] == []


def until(page: Any, condition: str) -> None:
    """Waits; playwright's own waiting evaluates text in the page, which the page's policy forbids."""
    for _ in range(600):
        if page.evaluate(condition):
            return
        time.sleep(0.05)
    raise AssertionError(f"not true within 30 s: {condition}")


def write(page: Any, responses: Any = RESPONSES, prompt: str = "hello") -> None:
    page.wait_for_selector("#ask[data-ready]")
    page.fill("#turns textarea", prompt)
    while page.locator("#responses .response").count() < len(responses):
        page.click("#add-response")
    while page.locator("#responses .response").count() > len(responses):
        page.locator("#responses .remove").last.click()
    for number, text in enumerate(responses, 1):
        if len(text) < 10_000:
            page.fill(f"#response-{number}", text)
        else:  # typing takes a minute
            page.evaluate(
                "([n, text]) => { document.querySelector(n).value = text }", [f"#response-{number}", text]
            )


def score(page: Any) -> None:
    before = page.input_value("#key")
    page.click("#score")
    until(page, f"document.querySelector('#key').value !== {before!r} && {DRAWN}")


def order(page: Any) -> list[int]:
    return [int(text.removeprefix("Response ")) for text in page.locator(".ranking strong").all_inner_texts()]


def by_model(model: pl.RewardModel, responses: Any = RESPONSES, **options: Any) -> list[int]:
    utilities = model.score([talk(text) for text in responses], **options).tolist()
    return sorted(range(1, len(utilities) + 1), key=lambda n: -utilities[n - 1])


def test_measure_and_weights_move_the_ranking(model, browser, server):
    with opened(browser, server) as page:
        write(page)
        score(page)
        assert order(page) == by_model(model)
        assert page.inner_text("#told").startswith("Ranked by mean: 1. Response")
        assert page.inner_text(".ranking li:first-child .excerpt") == RESPONSES[order(page)[0] - 1]
        by_cvar, by_entropic = (by_model(model, risk=risk) for risk in ("cvar:0.1", "entropic:-3"))
        assert by_cvar != by_model(model)
        before = len(model.backbone.embedded)
        with page.expect_response("**/explorer/rank"):
            page.select_option("#measure", "cvar")
        until(page, "document.querySelector('#told').textContent.includes('cvar:0.1')")
        assert page.input_value("#risk") == "cvar:0.1"
        assert order(page) == by_cvar
        with page.expect_response("**/explorer/rank"):
            page.fill("#risk", "entropic:-3")
        until(page, "document.querySelector('#told').textContent.includes('entropic:-3')")
        assert page.input_value("#measure") == "entropic"
        assert float(page.input_value("#parameter")) == -3
        assert order(page) == by_entropic
        page.click("#attributes-settings summary")
        with page.expect_response("**/explorer/rank"):
            page.check("#weigh")
        with page.expect_response("**/explorer/rank"):
            page.fill("#weight-0", "0")
        page.wait_for_selector("text=Your weights are in use")
        until(page, "document.querySelector('#command').textContent.includes('--weights.a0 0.0')")
        until(page, DRAWN)
        assert len(model.backbone.embedded) == before  # all of that without the backbone
        weights = {"a0": 0.0, "a1": float(page.input_value("#weight-1"))}
        assert order(page) == by_model(model, risk="entropic:-3", weights=weights)


def test_every_chart_is_drawn_with_a_table_beside_it(browser, server):
    with opened(browser, server) as page:
        write(page)
        page.select_option("#measure", "cvar")
        score(page)
        charts = page.evaluate(
            "[...document.querySelectorAll('.chart')].map(one => [one.dataset.chart, "
            "one.querySelectorAll('path').length])"
        )
        assert {name for name, _ in charts} == {
            "rewards",
            "parameter",
            "attribute-0",
            "attribute-1",
        }
        assert all(paths > 3 for _, paths in charts)
        sections = page.evaluate(
            "[...document.querySelectorAll('.chart')].every(one => "
            "one.parentElement.querySelector('table') && one.getAttribute('aria-hidden') === 'true')"
        )
        assert sections


def test_all_of_it_works_without_a_mouse(model, browser, server):
    with opened(browser, server) as page:
        page.wait_for_selector("#ask[data-ready]")

        def tab_to(selector: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate(f"document.activeElement.matches({selector!r})"):
                    return
            raise AssertionError(f"no way to {selector}")

        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        tab_to("#turns textarea")
        page.keyboard.type("hello")
        tab_to("#response-1")
        page.keyboard.type(RESPONSES[0])
        tab_to("#response-2")
        page.keyboard.type(RESPONSES[1])
        tab_to("#add-response")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "response-3"  # ready to type in
        page.keyboard.type(RESPONSES[2])
        with page.expect_response("**/explorer/read"):
            page.keyboard.press("Control+Enter")
        until(page, DRAWN)
        assert order(page) == by_model(model)
        tab_to("#measure")
        with page.expect_response("**/explorer/rank"):
            page.keyboard.type("Worst share")
        tab_to("#parameter")
        with page.expect_response("**/explorer/rank"):
            page.keyboard.press("ArrowRight")
        until(page, "document.querySelector('#told').textContent.includes('cvar:0.11')")
        assert page.evaluate("document.activeElement.id") == "parameter"  # the focus stays
        assert order(page) == by_model(model, risk="cvar:0.11")
        tab_to("summary")
        page.keyboard.press("Enter")
        tab_to("#weigh")
        with page.expect_response("**/explorer/rank"):
            page.keyboard.press("Space")
        tab_to("#weight-0")
        with page.expect_response("**/explorer/rank"):
            page.keyboard.press("Home")
        tab_to(".export")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        assert download.value.suggested_filename == "explorer.json"


def test_everything_has_a_name_and_the_ranking_is_said(browser, server):
    with opened(browser, server) as page:
        write(page)
        page.click("#add-turn")
        score(page)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        nameless = page.evaluate(
            """[...document.querySelectorAll('button, input:not([type=hidden]), select, textarea, summary')]
            .filter(one => one.checkVisibility() && !(one.labels?.length && one.labels[0].textContent.trim())
              && !one.getAttribute('aria-label') && !(/BUTTON|SUMMARY/.test(one.tagName) &&
              one.textContent.trim()))
            .map(one => one.outerHTML)"""
        )
        assert nameless == []
        assert page.get_attribute("#told", "aria-live") == "polite"
        assert page.get_attribute("#problem", "role") == "alert"
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(set(ids)) == len(ids)
        levels = page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))"
        )
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_hostile_texts_are_shown_as_texts(browser, server):
    evil = '0 1 <img src=x onerror="window.broken=1"><script>window.broken=1</script>{{7*7}}\u202eevil'
    with opened(browser, server) as page:
        page.on("dialog", lambda dialog: pytest.fail("a dialog"))
        write(page, [evil, "1 1 b", "0.5 1 c"], prompt=evil)
        score(page)
        assert evil in page.locator(".excerpt").all_inner_texts()
        assert page.evaluate("window.broken") is None
        assert page.locator("#seen img").count() == page.locator("#seen script").count() == 0
        with page.expect_download() as download:
            page.click("text=Download as Python")
        source = download.value.path().read_text(encoding="utf-8")
        compile(source, "downloaded", "exec")
        assert repr(evil) in source


@pytest.mark.parametrize(
    ("responses", "words", "sent"),
    [
        (
            ["0 1 " + "x" * 10_000_000],
            "The texts are 9.5 MB as they are sent; this server reads at most 8.0 MB",
            0,
        ),
        (["0 1 a", "  "], "Response 2 is empty. Write something there, or remove it.", 1),
    ],
)
def test_what_cannot_be_read_is_said_and_what_was_shown_stays(browser, server, responses, words, sent):
    with opened(browser, server, refused=True) as page:
        write(page)
        score(page)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        write(page, responses)
        assert page.is_visible("#stale")
        page.click("#score")
        page.wait_for_selector(f"#problem:has-text({words!r})")
        assert len([url for url in asked if url.endswith("/read")]) == sent
        assert len(order(page)) == len(RESPONSES)
        write(page)
        score(page)
        assert page.inner_text("#problem") == ""
        assert not page.is_visible("#stale")


def test_one_response_and_a_hundred(model, browser, server):
    with opened(browser, server) as page:
        write(page, RESPONSES[:1])
        assert page.locator("#responses .remove:visible").count() == 0  # the last one stays
        score(page)
        assert page.is_visible("text=There is nothing to rank it against")
        many = [f"{n / 50 - 1} 0.5 r{n}" for n in range(100)]
        page.evaluate(
            """texts => {
              const add = document.querySelector('#add-response');
              while (document.querySelectorAll('#responses textarea').length < texts.length) add.click();
              document.querySelectorAll('#responses textarea').forEach((one, i) => one.value = texts[i]);
            }""",
            many,
        )
        assert page.is_disabled("#add-response")
        score(page)
        assert order(page) == by_model(model, many)[:12]
        assert page.locator(".ranking li").count() == 12
        assert page.locator("[data-chart=rewards] .role-axis-label text").count() >= 100


def test_turns_come_and_go(browser, server):
    with opened(browser, server) as page:
        write(page, RESPONSES[:2])
        page.click("#add-turn")
        assert page.input_value(".turn:nth-child(2) select") == "assistant"
        page.fill(".turn:nth-child(2) textarea", "an answer")
        page.click("#add-turn")
        page.fill(".turn:nth-child(3) textarea", "and then?")
        score(page)
        with page.expect_download() as download:
            page.click("text=Download responses.jsonl")
        rows = download.value.path().read_text(encoding="utf-8").splitlines()
        assert (
            '[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "an answer"}' in rows[0]
        )
        page.click(".turn:nth-child(2) .remove")
        assert page.locator(".turn").count() == 2
        assert page.get_attribute(".turn:nth-child(2) textarea", "aria-label") == "Text of turn 2"


def test_a_reading_that_is_gone_is_read_again(model, browser):
    with (
        running(create_app(model, ServerConfig(kept_mb=1e-6))) as server,
        opened(browser, server, refused=True) as page,
    ):
        write(page)
        score(page)
        with opened(browser, server) as other:  # whose reading pushes the first one out
            write(other, RESPONSES[:2])
            score(other)
        with page.expect_response("**/explorer/read") as again:
            page.select_option("#measure", "median")
        assert again.value.status == 200
        until(page, "document.querySelector('#told').textContent.includes('median')")
        assert order(page) == by_model(model, risk="median")


def test_the_token_is_asked_for_and_kept_in_the_tab(model, browser):
    app = create_app(model, token="open-sesame")
    with running(app) as server, opened(browser, server, refused=True) as page:
        page.wait_for_selector("#token-form:visible")
        assert page.evaluate("document.activeElement.id") == "token"
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=This token is not the server's")
        page.fill("#token", "open-sesame")
        page.keyboard.press("Enter")
        write(page)
        assert not page.is_visible("#token-form")
        score(page)
        with page.expect_download():
            page.click("text=Download all of this")
        stored = page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href]")
        assert "sesame" not in "".join(stored)
        page.reload()
        page.wait_for_selector("#score")  # it still knows the token


class Late:
    """A model that is loaded when it may be."""

    def __init__(self, model: pl.RewardModel) -> None:
        self.may = threading.Event()
        self.model = model

    def __call__(self) -> pl.RewardModel:
        assert self.may.wait(60)
        return self.model


def test_the_page_waits_for_the_model_by_itself(model, browser):
    late = Late(model)
    with running(create_app(lambda: late()), ready=False) as server, opened(browser, server) as page:
        page.wait_for_selector("text=The model is being loaded")
        assert page.get_attribute("#main section", "role") == "status"
        late.may.set()
        write(page)
        score(page)
        assert order(page) == by_model(model)


def test_a_server_that_is_away_is_said(model, browser):
    with running(create_app(model)) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/")
        write(page)
        page.route("**/explorer/read", lambda route: route.abort())
        page.click("#score")
        page.wait_for_selector("text=The server cannot be reached")
        context.close()


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_nothing_overflows_in_light_and_dark(browser, server, width):
    inks = set()
    for scheme in ("light", "dark"):
        with opened(browser, server, color_scheme=scheme) as page:
            page.set_viewport_size({"width": width, "height": 800})
            write(page, [*RESPONSES, "0.2 0.2 " + "word " * 100 + "x" * 400])
            page.click("#attributes-settings summary")
            page.select_option("#measure", "cvar")
            score(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            cut = page.evaluate(
                """() => {
                  const right = one => one.getBoundingClientRect().right;
                  const boxes = [...document.querySelectorAll('main *')].filter(one =>
                    !one.closest('.scroll') && !one.ownerSVGElement && right(one) > innerWidth + 1);
                  const texts = [...document.querySelectorAll('.chart svg text')].filter(one =>
                    right(one) > right(one.ownerSVGElement) + 1);
                  return [...boxes, ...texts].map(one => one.outerHTML.slice(0, 80));
                }"""
            )
            assert cut == []
            inks.add(page.evaluate("getComputedStyle(document.body).color"))
            axis = page.locator("[data-chart=rewards] .role-axis-label text").first.get_attribute("fill")
            assert axis
            inks.add(axis)
    assert len(inks) == 4


def test_charts_follow_the_theme(browser, server):
    with opened(browser, server, color_scheme="light") as page:
        write(page)
        score(page)
        fill = "document.querySelector('[data-chart=rewards] .role-axis-label text').getAttribute('fill')"
        light = page.evaluate(fill)
        page.emulate_media(color_scheme="dark")
        until(page, f"{fill} !== {light!r}")
