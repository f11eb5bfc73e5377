"""A gateway by hand: FastAPI on uvicorn (uvloop, httptools), httpx, and no feature at all."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

client = httpx.AsyncClient(
    timeout=None,
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/chat/completions")
async def chat(request: Request) -> Response:
    upstream = client.build_request(
        "POST",
        f"{sys.argv[2]}/v1/chat/completions",
        content=await request.body(),
        headers={"Content-Type": "application/json"},
    )
    reply = await client.send(upstream, stream=True)
    content_type = reply.headers["content-type"]
    if not content_type.startswith("text/event-stream"):
        body = await reply.aread()
        await reply.aclose()
        return Response(body, reply.status_code, media_type=content_type)

    async def pieces() -> AsyncIterator[bytes]:
        try:
            async for piece in reply.aiter_raw():
                yield piece
        finally:
            await reply.aclose()

    return StreamingResponse(pieces(), media_type=content_type)


uvicorn.run(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    loop="uvloop",
    http="httptools",
    access_log=False,
    log_level="warning",
    backlog=4096,
)
