"""The main figures as bars, for README.md."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import load

COLOURS = {"pillion": "#d1495b", "nginx": "#8d99ae", "HAProxy": "#5f7186", "Envoy": "#2b3a4a"}


def write(results):
    """results.png."""
    figure, (cpu, tail, idle) = plt.subplots(
        1, 3, figsize=(13, 3.6), gridspec_kw={"width_ratios": [4, 1, 1]}, layout="constrained"
    )
    kinds = [(tls, kind) for tls in (False, True) for kind in (load.GET_32, load.POST_32, load.BIG_32)]
    ratios = {name: [results.pinned[tls].ratio(kind, name) for tls, kind in kinds] for name in COLOURS}
    for place, (name, heights) in enumerate(ratios.items()):
        bars = cpu.bar([at + 0.2 * (place - 1.5) for at in range(len(kinds))], heights, 0.19, color=COLOURS[name])
        cpu.bar_label(bars, fmt="%.2f", fontsize=6.5, padding=1)
        bars.set_label(name)
    labels = [f"{kind.name.split(',')[0]}\n{'TLS' if tls else 'plaintext'}" for tls, kind in kinds]
    cpu.set_xticks(range(len(kinds)), labels, fontsize=8)
    cpu.set_title("CPU per request, nginx is 1", fontsize=10)
    cpu.legend(frameon=False, fontsize=8)

    steady = results.steady[False]
    (kind,) = steady.slices
    one_bar_each(tail, {name: steady.median(kind, name, lambda it: it.load.p99_9) / 1000 for name in COLOURS})
    tail.set_title(f"p99.9 in ms, plaintext,\n{kind}", fontsize=10)
    one_bar_each(idle, {name: results.memory[name].idle.rss / 1024 for name in COLOURS})
    idle.set_title(f"MiB with {results.idle_connections:,}\nidle connections", fontsize=10)
    for axes in (cpu, tail, idle):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.savefig(Path(__file__).with_name("results.png"), dpi=120, metadata={"Software": None})


def one_bar_each(axes, heights):
    """A bar for each peer, with its figure above it."""
    bars = axes.bar(list(heights), list(heights.values()), color=[COLOURS[name] for name in heights])
    axes.bar_label(bars, fmt="%.3g", fontsize=7.5)
