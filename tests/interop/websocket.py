"""WebSocket by the book: `serve` is an echo server of the websockets package; `judge URL` says what kosoku's cases, which
are the Autobahn TestSuite's, make of the server at URL: a verdict of the messages and one of the close for each. All of the
cases, or those that are named.
"""

import asyncio
import json
import sys

from kosoku import FailureError, run_fuzzingclient
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed

# Messages of megabytes and compression: about the server's speed and extensions, and most of the time.
EXCLUDED = ["9.*", "12.*", "13.*"]


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # which is what the case was about


async def serve():
    async with listen(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        print(json.dumps({"echo": f"http://127.0.0.1:{port}"}), flush=True)
        # Until whoever started it is gone.
        await asyncio.to_thread(sys.stdin.read)


async def judge(url, cases):
    try:
        results = await run_fuzzingclient(url, cases or None, EXCLUDED, concurrency=8)
    except FailureError as failure:
        results = failure.results
    verdicts = {it.case_id: [it.behavior.value, it.behavior_close.value] for it in results}
    print(json.dumps(verdicts), flush=True)


match sys.argv[1:]:
    case ["serve"]:
        asyncio.run(serve())
    case ["judge", url, *cases]:
        asyncio.run(judge(url, cases))
    case _:
        sys.exit("serve, or judge URL [CASE ...]")
