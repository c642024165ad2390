"""What pillion is meant to cost, and whether it does."""

import load


def told(results):
    """One line for each goal."""
    plain, tls = results.pinned[False], results.pinned[True]
    memory, growth = results.memory["pillion"], results.growth
    goals = [
        ("CPU to nginx's, GET, plaintext", plain.ratio(load.GET_32, "pillion"), 1.0, ""),
        ("CPU to nginx's, GET, TLS", tls.ratio(load.GET_32, "pillion"), 0.88, ""),
        ("CPU to nginx's, POST", plain.ratio(load.POST_32, "pillion"), 1.0, ""),
        ("CPU to nginx's, 64 KiB", plain.ratio(load.BIG_32, "pillion"), 0.65, ""),
        ("memory at start", memory.start.rss / 1024, 10, " MiB"),
        ("memory of an idle connection", memory.connection_kib, 12, " KiB"),
        ("exec to first answer, plaintext", results.start[False]["pillion"], 10, " ms"),
        ("CPU, the last of 1,000 routes to one", growth.routes.growth, 1.1, ""),
        ("CPU, 100,000 subjects to one", growth.subjects.growth, 1.1, ""),
        ("scrape with 200 routes", growth.scrape_ms, 5, " ms"),
    ]
    for what, figure, most, unit in goals:
        verdict = "reached" if figure <= most else "missed"
        yield f"{verdict:<8} {what:<36} {figure:>7.2f}{unit}, meant to be at most {most:g}{unit}"
