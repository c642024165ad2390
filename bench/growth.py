"""What pillion costs with many routes and many subjects, and what a scrape of its metrics costs."""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import client
import cost
import load
from progress import step

ROUTES, SUBJECTS = 1000, 100_000


@dataclass(frozen=True)
class Growth:
    """CPU per request with one and with many, and what comes with it."""

    routes: cost.Costs
    subjects: cost.Costs
    token_kib: float  # memory for each subject
    scrape_ms: float  # of the metrics of 200 routes
    scrape_kib: float


def growth(pillion, upstream, rounds):
    """Measures all of it, on one core."""
    routes = routes_compared(pillion, upstream, rounds)
    subjects, token_kib = subjects_compared(replace(pillion, config="subjects.toml"), upstream, rounds)
    return Growth(routes, subjects, token_kib, *scrape(pillion, upstream))


def with_routes(pillion, count):
    """Its configuration with so many routes, of which requests to /x match the last."""
    head, table, route = (Path(__file__).with_name(pillion.config).read_text()).partition("[[route]]")
    others = "".join(table + route.replace('"/"', f'"/{number}"') for number in range(count - 1))
    return head + others + table + route.replace('"/"', '"/x"')


def routes_compared(pillion, upstream, rounds):
    """One route, and the last of many."""
    get = replace(load.GET_32, path="/x")
    with (
        pillion.started(upstream, path="/x", template=with_routes(pillion, 1)) as one,
        pillion.started(upstream, path="/x", template=with_routes(pillion, ROUTES)) as many,
    ):
        work = {get: (lambda port: load.closed_loop(port, get), lambda name: True)}
        return cost.in_turns("routes", {"1": one, f"{ROUTES:,}": many}, work, rounds)


def subjects_compared(pillion, upstream, rounds):
    """One subject, and many of which each has its token: each request is for the next one."""
    first = f"/{0:06}"
    with (
        pillion.started(upstream, path=first) as one,
        pillion.started(upstream, path=first) as many,
    ):
        before = many.process.memory().rss
        warm(many)
        token_kib = (many.process.memory().rss - before) / SUBJECTS

        def work(port):
            subjects = 1 if port == one.port else SUBJECTS
            return load.closed_loop(port, replace(load.GET_32, subjects=subjects))

        work = {"subjects": (work, lambda name: True)}
        return cost.in_turns("subjects", {"1": one, f"{SUBJECTS:,}": many}, work, rounds), token_kib


def warm(running):
    """Asks for each subject until all have their token."""
    step(f"subjects: {SUBJECTS:,} tokens are fetched")
    while (have := tokens(running)) < SUBJECTS:
        load.closed_loop(running.port, replace(load.GET_32, subjects=SUBJECTS, first=have), seconds=2)


def tokens(running):
    """How many it holds, as its metrics say."""
    for line in scraped(running)[0].decode().splitlines():
        if line.startswith("pillion_tokens{"):
            return int(line.split()[-1])
    raise ValueError("no metric is named pillion_tokens")


def scraped(running):
    """The metrics, and the milliseconds that it took to get them."""
    began = time.perf_counter()
    with client.connect(running.admin) as connection:
        connection.sendall(client.request("/metrics"))
        answer = b""
        while not client.is_whole(answer):
            answer += connection.recv(1 << 20)
    return answer, (time.perf_counter() - began) * 1000


def scrape(pillion, upstream):
    """Milliseconds for the metrics of 200 routes, the median, and their KiB."""
    with pillion.started(upstream, path="/x", template=with_routes(pillion, 200)) as running:
        answers = [scraped(running) for _ in range(50)]
    return statistics.median(it[1] for it in answers), len(answers[0][0]) / 1024
