"""The figures as Markdown: all of them in results.md, the main ones in README.md."""

from dataclasses import dataclass
from pathlib import Path

import cost
import load
from growth import ROUTES, SUBJECTS, Growth

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- written by bench/run -->", "<!-- until here -->"
NAMES = ["pillion", "nginx", "HAProxy", "Envoy"]


@dataclass(frozen=True)
class Results:
    """What was measured where. By whether the upstream speaks TLS, or by the peer's name."""

    where: str
    is_quick: bool
    pinned: dict
    unpinned: dict
    steady: dict
    memory: dict
    start: dict
    size: dict
    growth: Growth

    @property
    def costs(self):
        """All comparisons in rounds."""
        return [*self.pinned.values(), *self.unpinned.values(), *self.steady.values()]

    @property
    def idle_connections(self):
        """As many as every peer holds."""
        return self.memory["pillion"].idle_connections

    @property
    def rounds(self):
        return len(next(iter(next(iter(self.pinned[False].slices.values())).values())))


def write(results, command, seconds):
    """results.md, and the table of README.md between its two marks."""
    head = f"`{command}`, {seconds / 60:.0f} minutes, {results.rounds} rounds. {results.where}"
    if results.is_quick:
        head = f"**A quick look, too short to settle anything.** {head}"
    main = summary(results)
    bad = sum(it.bad for it in (*results.costs, results.growth.routes, results.growth.subjects))
    text = "\n\n".join(
        [
            "# What a request costs",
            head,
            main,
            "Ratios are medians of rounds, each to nginx in the same round; in brackets the least and the greatest. RSS counts"
            " what processes share once for each (nginx is two), PSS once.",
            "![the main figures as bars](results.png)",
            *(details(it) for it in results.costs),
            memory(results),
            grown(results.growth),
            f"Answers other than 200: {bad}.",
        ]
    )
    (HERE / "results.md").write_text(text + "\n")
    readme = README.read_text()
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{head}\n\n{main}\n{END}{after}")


def rows(head, *lines):
    """A table: text in the first column, figures in the others."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(results):
    """What most people want to know."""
    lines = []
    for tls, costs in results.pinned.items():
        for kind in (load.GET_32, load.POST_32, load.BIG_32):
            micros = costs.median(kind, "nginx", lambda it: it.cpu)
            what = f"CPU per request, {'TLS' if tls else 'plaintext'} upstream: {kind.name}"
            lines.append([what] + [f"{costs.ratio(kind, name):.2f}" for name in NAMES])
            lines[-1][NAMES.index("nginx") + 1] = f"1 ({micros:.1f} µs)"
    for tls, costs in results.steady.items():
        (kind,) = costs.slices
        for words, figure in (("p50", lambda it: it.load.p50), ("p99.9", lambda it: it.load.p99_9)):
            what = f"{words} at {kind}, {'TLS' if tls else 'plaintext'} upstream"
            lines.append([what] + [f"{costs.median(kind, name, figure) / 1000:.2f} ms" for name in NAMES])
    memory = [results.memory[name] for name in NAMES]
    lines += [
        ["memory at start: RSS (PSS)"]
        + [f"{it.start.rss / 1024:.1f} ({it.start.pss / 1024:.1f}) MiB" for it in memory],
        ["each idle connection"] + [f"{it.connection_kib:.1f} KiB" for it in memory],
        [f"with {results.idle_connections:,} idle connections"] + [f"{it.idle.rss / 1024:.0f} MiB" for it in memory],
        ["10 s after 1,000 requests at once"] + [f"{it.burst.rss / 1024:.0f} MiB" for it in memory],
    ]
    for tls, times in results.start.items():
        what = f"exec to first answer, {'TLS' if tls else 'plaintext'} upstream"
        lines.append([what] + [f"{times[name]:.0f} ms" for name in NAMES])
    lines.append(["binary, stripped"] + [f"{results.size[name] / 1e6:.1f} MB" for name in NAMES])
    growth = results.growth
    return "\n\n".join(
        [
            rows([""] + NAMES, *lines),
            f"pillion alone: a request to the last of {ROUTES:,} routes costs {growth.routes.growth:.2f} times the CPU of "
            f"one to the only route; requests for {SUBJECTS:,} subjects in turn {growth.subjects.growth:.2f} times that of "
            f"requests for one, and {growth.token_kib:.1f} KiB of memory each. "
            f"A scrape with 200 routes takes {growth.scrape_ms:.1f} ms.",
        ]
    )


def details(costs):
    """Each kind of load and each peer."""
    lines = []
    for kind, slices in costs.slices.items():
        for name in slices:
            ratios = costs.ratios(kind, name)
            median = lambda figure: costs.median(kind, name, figure)
            lines.append(
                [
                    f"{getattr(kind, 'name', kind)}: {name}",
                    f"{median(lambda it: it.load.rate):,.0f}",
                    f"{median(lambda it: it.cpu):.1f}",
                    f"{costs.ratio(kind, name):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]",
                    f"{median(lambda it: it.load.p50):,.0f}",
                    f"{median(lambda it: it.load.p99):,.0f}",
                    f"{median(lambda it: it.load.p99_9):,.0f}",
                ]
            )
    head = ["", "requests/s", "CPU µs/request", "to the first", "p50 µs", "p99 µs", "p99.9 µs"]
    return f"## {costs.title[0].upper()}{costs.title[1:]}\n\n{rows(head, *lines)}"


def memory(results):
    """RSS, which counts what processes share once for each, and PSS."""
    lines = [
        [name] + [f"{it.rss:,} ({it.pss:,})" for it in (of.start, of.idle_1000, of.idle, of.burst)]
        for name, of in results.memory.items()
    ]
    head = ["", "at start", "1,000 idle connections", f"{results.idle_connections:,}", "10 s after 1,000 requests at once"]
    what = "RSS (PSS) in KiB of all its processes, one worker, plaintext upstream."
    if results.idle_connections < 10_000:
        what += " Not 10,000 idle connections, because a process may not have as many open files here."
    return f"## Memory\n\n{what}\n\n{rows(head, *lines)}"


def grown(growth):
    """What does not grow."""
    return "\n\n".join(
        [
            "## One and many",
            rows(
                ["pillion", "CPU per request, to that with one"],
                [f"the last of {ROUTES:,} routes", bracketed(growth.routes)],
                [f"{SUBJECTS:,} subjects in turn", bracketed(growth.subjects)],
            ),
            f"A subject costs {growth.token_kib:.2f} KiB of memory; the metrics of 200 routes are "
            f"{growth.scrape_kib:.0f} KiB, scraped in {growth.scrape_ms:.1f} ms.",
        ]
    )


def bracketed(costs: cost.Costs):
    """The second's ratio to the first."""
    ((kind, (_, many)),) = costs.slices.items()
    ratios = costs.ratios(kind, many)
    return f"{costs.growth:.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
