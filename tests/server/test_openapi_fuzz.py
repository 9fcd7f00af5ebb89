"""schemathesis on the OpenAPI description: no 500, no hang, nothing that stays; answers are as described."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import pluralign as pl
from http_server import running
from pluralign.server import ServerConfig
from pluralign.server.app import build
from pluralign.server.vote_routes import VoteDesk
from pluralign.server.votes import VoteStore
from tiny_tokenizers import make_tokenizer


class Lengths:
    """The number of characters of each response."""

    def distribution(self, conversations):
        return pl.Point([float(len(one[-1]["content"])) for one in conversations])


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.slow
def test_no_generated_request_breaks_it(tmp_path):
    token = "secret"
    pytest.importorskip("schemathesis")
    desk = VoteDesk(VoteStore(tmp_path / "votes.sqlite"), token, None)
    tokenizer = make_tokenizer("chatml")
    app = build(Lengths(), ServerConfig(), token=token, policy_tokenizer=lambda: tokenizer, desk=desk)
    with running(app) as server:
        code = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
        command = [sys.executable, "-c", code, "run", f"http://127.0.0.1:{server.port}/openapi.json"]
        command += ["--checks", ",".join(CHECKS), "--max-examples", "15", "--seed", "1"]
        command += ["--request-timeout", "20"]
        command += ["--phases", "examples,coverage,fuzzing", "--no-color"]
        command += ["--header", f"Authorization: Bearer {token}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        asked = {"conversations": [[{"role": "assistant", "content": "abc"}]]}
        answer = server.post("/v1/score", asked, Authorization=f"Bearer {token}")
        assert answer.json == {"scores": [3.0]}
        service = app.state.service
        assert (service.batcher.waiting, service.batcher.running) == (0, 0)
        metrics = server.get("/metrics", Authorization=f"Bearer {token}").body.decode()
        assert "pluralign_open_requests 1.0" in metrics  # this one
        paths = set(re.findall(r'pluralign_requests_total\{path="([^"]*)"', metrics))
        assert paths <= {*app.openapi()["paths"], "/", "/openapi.json", "other"}  # whatever was asked for
        assert len(service._predictor._known) <= 256
