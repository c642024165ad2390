"""What a request costs: peers side by side, taking turns in rounds, so that a slow minute is slow for all of them."""

import contextlib
import statistics
from collections import defaultdict
from dataclasses import dataclass, field

import load
from process import BOTH, LOAD_CORE
from progress import step


@dataclass(frozen=True)
class Slice:
    """One peer under one kind of load, for a second or so."""

    load: load.Load
    cpu: float  # microseconds for each request, of the proxy alone


@dataclass
class Costs:
    """Slices by kind of load and peer, one a round. The first peer is what the others are measured by."""

    title: str
    slices: dict = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def median(self, kind, name, figure):
        return statistics.median(figure(it) for it in self.slices[kind][name])

    def ratios(self, kind, name, figure=lambda it: it.cpu):
        """To the first peer, in the same round."""
        first = next(iter(self.slices[kind].values()))
        return [figure(own) / figure(its) for own, its in zip(self.slices[kind][name], first)]

    def ratio(self, kind, name, figure=lambda it: it.cpu):
        return statistics.median(self.ratios(kind, name, figure))

    @property
    def growth(self):
        """The CPU of the second to that of the first, where there are just two."""
        ((kind, (_, second)),) = self.slices.items()
        return self.ratio(kind, second)

    @property
    def bad(self):
        return sum(it.load.bad for peers in self.slices.values() for its in peers.values() for it in its)


def of(process, under_load):
    """The load, and the CPU time that the process spends meanwhile."""
    before = process.cpu_seconds()
    seen = under_load()
    return Slice(seen, (process.cpu_seconds() - before) / seen.requests * 1e6)


def in_turns(title, running, work, rounds):
    """`running`: what is measured, by name. `work`: by kind of load, a function of a port, and who takes part."""
    costs = Costs(title)
    names = list(running)
    warm_up, _ = next(iter(work.values()))
    for it in running.values():
        warm_up(it.port)
    for turn in range(rounds):
        step(f"{title}: round {turn + 1} of {rounds}")
        for kind, (put_load_on, takes_part) in work.items():
            measured = {}
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                if takes_part(name):
                    it = running[name]
                    measured[name] = of(it.process, lambda: put_load_on(it.port))
            for name in filter(takes_part, names):
                costs.slices[kind][name].append(measured[name])
    return costs


def side_by_side(peers, upstream, kinds, rounds, tls, pinned):
    """As fast as each peer answers."""
    cores = {LOAD_CORE} if pinned else BOTH
    where = "one core for the proxy" if pinned else "both cores for everything"
    work = {
        kind: (
            lambda port, kind=kind: load.closed_loop(port, kind, cores=cores),
            lambda name, kind=kind: kind is load.BIG_32 or name != "nginx, big buffers",
        )
        for kind in kinds
    }
    with contextlib.ExitStack() as stack:
        upstream.process.move(cores)
        stack.callback(upstream.process.move, {LOAD_CORE})
        running = {
            peer.name: stack.enter_context(peer.started(upstream, tls=tls, pinned=pinned))
            for peer in peers
            if pinned or not peer.words
        }
        return in_turns(f"{'TLS' if tls else 'plaintext'} upstream, {where}", running, work, rounds)


def at_a_rate(peers, upstream, rate, seconds, rounds, tls):
    """So many requests a second, which every peer can answer; and the upstream without any."""
    kind = f"{rate:,} requests a second"
    path = lambda port: "/open" if port == upstream.port else "/"
    work = {kind: (lambda port: load.open_loop(port, rate, seconds, path(port)), lambda name: True)}
    with contextlib.ExitStack() as stack:
        running = {
            peer.name: stack.enter_context(peer.started(upstream, tls=tls)) for peer in peers if not peer.words
        }
        if not tls:
            running["no proxy (CPU: the upstream)"] = upstream
        return in_turns(f"{'TLS' if tls else 'plaintext'} upstream, {kind}", running, work, rounds)
