"""Load: as fast as it is answered (wrk), or so many requests a second whatever happens."""

import contextlib
import gc
import json
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import client
from process import LOAD_CORE, on

CONNECTIONS = 64  # of the open loop
PATIENCE = 10  # seconds after the last request was due; what has no answer then counts as bad
SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Load:
    """What a load generator saw. Latencies in microseconds."""

    requests: int
    seconds: float
    bad: int
    p50: float
    p99: float
    p99_9: float

    @property
    def rate(self):
        return self.requests / self.seconds


@dataclass(frozen=True)
class Kind:
    """What is asked for, on how many connections."""

    name: str
    connections: int
    method: str = "GET"
    path: str = "/"
    subjects: int = 0
    first: int = 0


GET_1 = Kind("GET 1 KiB, 1 connection", 1)
GET_32 = Kind("GET 1 KiB, 32 connections", 32)
GET_128 = Kind("GET 1 KiB, 128 connections", 128)
POST_32 = Kind("POST 1 KiB, 32 connections", 32, method="POST")
BIG_32 = Kind("64 KiB answer, 32 connections", 32, path="/64k")
BURST = Kind("burst", 1000)


def closed_loop(port, kind, seconds=1, cores=frozenset({LOAD_CORE})):
    """Each connection sends its next request when it has the answer to the last one."""
    with on(cores):
        done = subprocess.run(
            [
                *("wrk", "--threads", "1", "--connections", str(kind.connections)),
                *("--duration", f"{seconds}s", "--timeout", "20s", "--script", SCRIPT),
                f"http://127.0.0.1:{port}",
                *("--", kind.method, kind.path, str(kind.subjects), str(kind.first)),
            ],
            capture_output=True,
            check=True,
            text=True,
        )
    figures = next(it for it in done.stdout.splitlines() if it.startswith("figures "))
    return Load(**json.loads(figures.removeprefix("figures ")))


def open_loop(port, rate, seconds, path):
    """A request is due every 1/rate s. Its latency counts from then, even if it could only be sent later."""
    with on({LOAD_CORE}):
        gc.disable()
        try:
            return _open_loop(port, rate, seconds, path)
        finally:
            gc.enable()


def _open_loop(port, rate, seconds, path):
    head, count = client.request(path), rate * seconds
    latencies, bad, sent = [], 0, 0
    free = [client.connect(port) for _ in range(CONNECTIONS)]
    under_way = {}  # by descriptor: the connection, when its request was due, what it has been answered
    with contextlib.ExitStack() as stack, select.epoll() as events:
        for connection in map(stack.enter_context, list(free)):
            client.exchange(connection, path)
            events.register(connection, select.EPOLLIN)
        start = time.perf_counter()
        while len(latencies) + bad < count:
            now = time.perf_counter()
            if now > start + seconds + PATIENCE:
                bad = count - len(latencies)
                break
            while free and sent < count and start + sent / rate <= now:
                connection = free.pop()
                under_way[connection.fileno()] = (connection, start + sent / rate, bytearray())
                connection.send(head)
                sent += 1
            # epoll_wait counts in milliseconds, select in microseconds.
            pause = start + sent / rate - time.perf_counter() if free and sent < count else PATIENCE
            select.select([events], [], [], max(0, pause))
            for number, _ in events.poll(0):
                connection, due, answer = under_way[number]
                more = connection.recv(1 << 16)
                if not more:
                    raise ConnectionError("closed in place of an answer")
                answer += more
                if client.is_whole(answer):
                    del under_way[number]
                    free.append(connection)
                    if answer[9:12] == b"200":
                        latencies.append((time.perf_counter() - due) * 1e6)
                    else:
                        bad += 1
        took = time.perf_counter() - start
    if not latencies:
        raise RuntimeError("not one good answer")
    latencies.sort()
    p50, p99, p99_9 = (latencies[int(len(latencies) * share)] for share in (0.5, 0.99, 0.999))
    return Load(len(latencies), took, bad, p50, p99, p99_9)
