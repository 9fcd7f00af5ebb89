"""The server that is written in ten minutes: one request, one forward pass.

python -m studies.speed.plain_server MODEL_FOLDER LISTENING_SOCKET async|threads
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from pluralign.model import RewardModel


class Asked(BaseModel):
    """The body of `/v1/score`."""

    conversations: list[list[dict[str, str]]]


def main() -> None:
    """Serves on a socket that the parent opened."""
    model = RewardModel.from_pretrained(sys.argv[1], cache=None)
    app = FastAPI()

    def score(request: Asked) -> dict[str, Any]:
        return {"scores": model.score(request.conversations).tolist()}

    async def score_alone(request: Asked) -> dict[str, Any]:
        return score(request)

    app.post("/v1/score")(score_alone if sys.argv[3] == "async" else score)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    config = uvicorn.Config(app, log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])


if __name__ == "__main__":
    main()
