"""A gateway by hand: aiohttp's server and client on uvloop, and no feature at all."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

SESSION = web.AppKey("session", ClientSession)


async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    sent = {"Content-Type": "application/json"}
    url = f"{sys.argv[2]}/v1/chat/completions"
    async with request.app[SESSION].post(url, data=body, headers=sent) as reply:
        if reply.content_type != "text/event-stream":
            return web.Response(
                status=reply.status, body=await reply.read(), content_type=reply.content_type
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for piece in reply.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = TCPConnector(limit=0)
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=None)) as client:
        app[SESSION] = client
        yield


def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.cleanup_ctx.append(session)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        backlog=4096,
        loop=uvloop.new_event_loop(),
    )


main()
