"""Load: as fast as it is answered (wrk), or so many requests a second whatever happens."""

import gc
import json
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import client
from process import LOAD_CORE, on

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
                *("--", kind.method, kind.path, str(kind.subjects)),
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
    events = select.epoll()
    free, under_way = [], {}
    latencies, bad, sent = [], 0, 0
    head, count = client.request(path), rate * seconds

    def another():
        connection = client.connect(port)
        events.register(connection, select.EPOLLIN)
        return connection

    try:
        for _ in range(32):
            connection = another()
            client.exchange(connection, path)
            free.append(connection)
        events.poll(0)
        start = time.perf_counter() + 0.01
        while len(latencies) + bad < count:
            now = time.perf_counter()
            while sent < count and start + sent / rate <= now:
                connection = free.pop() if free else another()
                under_way[connection.fileno()] = [connection, start + sent / rate, b""]
                connection.send(head)
                sent += 1
            due = start + sent / rate if sent < count else now + 1
            # epoll_wait counts in milliseconds, select in microseconds.
            select.select([events], [], [], max(0, due - time.perf_counter()))
            for number, _ in events.poll(0):
                exchange = under_way[number]
                exchange[2] += exchange[0].recv(1 << 16)
                if client.is_whole(exchange[2]):
                    connection, was_due, answer = under_way.pop(number)
                    free.append(connection)
                    if answer[9:12] == b"200":
                        latencies.append((time.perf_counter() - was_due) * 1e6)
                    else:
                        bad += 1
        took = time.perf_counter() - start
    finally:
        for connection in free + [it[0] for it in under_way.values()]:
            connection.close()
        events.close()
    latencies.sort()
    at = lambda share: latencies[min(int(len(latencies) * share), len(latencies) - 1)]
    return Load(count, took, bad, at(0.5), at(0.99), at(0.999))
