"""What pillion is meant to cost, and whether it does."""

import load

BIG_BUFFERS = "nginx, big buffers"


def told(results):
    """One line for each goal."""
    for what, figure, most, unit in [*costs(results), *footprint(results)]:
        verdict = "reached" if figure <= most else "missed"
        yield f"{verdict:<8} {what:<44} {figure:>7.2f}{unit}, meant to be at most {most:g}{unit}"


def costs(results):
    """Each is a ratio, of which less is better."""
    plain, tls = results.pinned[False], results.pinned[True]
    yield "CPU to nginx's, GET, plaintext", plain.ratio(load.GET_32, "pillion"), 1.0, ""
    yield "CPU to nginx's, GET, TLS", tls.ratio(load.GET_32, "pillion"), 0.88, ""
    if load.GET_128 in plain.slices:  # not in a quick look
        yield "CPU to nginx's, GET, plaintext, 128 at once", plain.ratio(load.GET_128, "pillion"), 1.0, ""
        yield "CPU to nginx's, GET, TLS, 128 at once", tls.ratio(load.GET_128, "pillion"), 0.88, ""
    yield "CPU to nginx's, POST", plain.ratio(load.POST_32, "pillion"), 1.0, ""
    yield "CPU to nginx's, 64 KiB", plain.ratio(load.BIG_32, "pillion"), 0.65, ""
    yield "CPU to nginx's with big buffers, 64 KiB", between(plain, load.BIG_32, BIG_BUFFERS, cpu), 1.1, ""
    yield "CPU to Envoy's, GET, plaintext", between(plain, load.GET_32, "Envoy", cpu), 0.3, ""
    yield "CPU to Envoy's, GET, TLS", between(tls, load.GET_32, "Envoy", cpu), 0.35, ""
    yield "time for each request to nginx's, plaintext", between(plain, load.GET_32, "nginx", time), 1.0, ""
    yield "time for each request to nginx's, TLS", between(tls, load.GET_32, "nginx", time), 1 / 1.05, ""
    yield "p99 to nginx's, GET, plaintext", between(plain, load.GET_32, "nginx", p99), 1.0, ""
    yield "p99 to nginx's, GET, TLS", between(tls, load.GET_32, "nginx", p99), 1.0, ""
    growth = results.growth
    yield "CPU, the last of 1,000 routes to one", growth.routes.growth, 1.05, ""
    yield "CPU, 100,000 subjects to one", growth.subjects.growth, 1.05, ""


def footprint(results):
    """What it takes besides."""
    memory = results.memory["pillion"]
    yield "memory at start", memory.start.rss / 1024, 10, " MiB"
    yield "memory of an idle connection", memory.connection_kib, 12, " KiB"
    yield "memory after 1,000 at once, above start", (memory.burst.rss - memory.start.rss) / 1024, 8, " MiB"
    yield "exec to first answer, plaintext", results.start[False]["pillion"], 10, " ms"
    yield "exec to first answer, TLS", results.start[True]["pillion"], 80, " ms"
    yield "binary, stripped", results.size["pillion"] / 1e6, 9, " MB"
    yield "scrape with 200 routes", results.growth.scrape_ms, 5, " ms"


def between(costs, kind, peer, figure):
    """pillion's to a peer's."""
    return costs.median(kind, "pillion", figure) / costs.median(kind, peer, figure)


def cpu(it):
    """Microseconds of the proxy."""
    return it.cpu


def time(it):
    """Seconds."""
    return 1 / it.load.rate


def p99(it):
    """Microseconds."""
    return it.load.p99
