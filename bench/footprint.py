"""What a proxy costs while it does nothing: memory, time to start, size."""

import resource
import statistics
import time
from dataclasses import dataclass

import client
import load
from process import Memory
from progress import step


@dataclass(frozen=True)
class Footprint:
    """Memory of a plaintext proxy with one worker."""

    start: Memory
    idle_1000: Memory
    idle: Memory
    idle_connections: int
    burst: Memory

    @property
    def connection_kib(self):
        """What one more idle connection costs."""
        return (self.idle.rss - self.idle_1000.rss) / (self.idle_connections - 1000)


def most_idle():
    """10,000, or fewer where less may be open: pillion and HAProxy admit half as many, for each needs another upstream."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(10_000, (descriptors - 200) // 200 * 100)


def memory(peer, upstream):
    """After the first answer, with idle connections that have each had an answer, and some time after 1,000 at once."""
    step(f"memory: {peer.name}")
    with peer.started(upstream) as running:
        start = running.process.memory()
        connections = client.idle(running.port, 1000)
        idle_1000 = running.process.memory()
        connections += client.idle(running.port, most_idle() - 1000)
        idle = running.process.memory()
        for connection in connections:
            connection.close()
    with peer.started(upstream) as running:
        load.closed_loop(running.port, load.BURST)
        time.sleep(10)  # what is given back is given back by then
        return Footprint(start, idle_1000, idle, len(connections), running.process.memory())


def starts(peers, upstream, rounds, tls):
    """Milliseconds from exec to the first proxied 200, the median, by name."""
    step(f"exec to first answer, {'TLS' if tls else 'plaintext'} upstream")
    times = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            began = time.perf_counter()
            with peer.start(upstream, tls=tls) as running:
                client.until_answered(running.port, running.process)
                times[peer.name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(it) for name, it in times.items()}
