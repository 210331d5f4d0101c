"""The floor: a bare aiohttp server that passes the bytes of an upstream on, and does nothing else.

    $ python tests/benchmarks/relay.py --upstream http://127.0.0.1:40123
    40124                                        # the port, then it serves until it is ended

What any bridge on aiohttp pays at least: one request parsed, one made, one read and one write a wake-up. It
speaks whatever wire its client speaks, since it never looks.
"""

import argparse
import asyncio
from contextlib import suppress

from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web
from yarl import URL


def make_app(upstream: str) -> web.Application:
    """The relay; `upstream` is a URL without a path."""

    async def connect(app: web.Application):
        # limit=0: aiohttp's default of 100 connections would make the floor wait.
        async with ClientSession(connector=TCPConnector(limit=0), cookie_jar=DummyCookieJar()) as session:
            app[SESSION] = session
            yield

    async def relay(request: web.Request) -> web.StreamResponse:
        body, url = await request.read(), URL(upstream + request.raw_path, encoded=True)
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with request.app[SESSION].post(url, data=body, headers=headers) as reply:
            response = web.StreamResponse(
                status=reply.status, headers={"Content-Type": reply.headers["Content-Type"]}
            )
            await response.prepare(request)
            async for piece in reply.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def here(request: web.Request) -> web.Response:
        return web.Response(text="relay")

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.cleanup_ctx.append(connect)
    app.router.add_get("/", here)
    app.router.add_post("/{path:.*}", relay)
    return app


SESSION = web.AppKey("session", ClientSession)


async def serve(upstream: str, port: int) -> None:
    """Serve on 127.0.0.1 until cancelled; prints the port first."""
    runner = web.AppRunner(make_app(upstream), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="A bare byte relay, the floor of the benchmarks.")
    parser.add_argument("--upstream", required=True, help="URL without a path")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed as the first line")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.upstream, arguments.port))


if __name__ == "__main__":
    main()
