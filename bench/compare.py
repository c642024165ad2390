"""Measures pillion beside its peers, and writes results.md, results.png and the table of README.md."""

import argparse
import resource
import shutil
import signal
import sys
from pathlib import Path

import cost
import footprint
import goals
import growth
import load
import machine
import plot
import table
from peer import Upstream, peers
from process import LOAD_CORE, on
from progress import seconds, step

QUICK = [load.GET_32, load.POST_32, load.BIG_32]
FULL = [load.GET_1, load.GET_32, load.GET_128, load.POST_32, load.BIG_32]
RATE = 5000
DESCRIPTORS = 32768  # for 10,000 idle connections


def main():
    arguments = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="three minutes, not fifteen: fewer kinds and rounds")
    arguments.add_argument("--pillion", type=Path, required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--run", type=Path, required=True, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    run = options.run.resolve()
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    raise_file_limit()
    # Whatever has been started is ended on the way out.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda number, _: sys.exit(f"ended by {signal.Signals(number).name}"))
    results = measured(peers(options.pillion.resolve()), run, options.quick)
    shutil.rmtree(run)
    table.write(results, "bench/run --quick" if options.quick else "bench/run", seconds())
    plot.write(results)
    print(*goals.told(results), sep="\n")
    step("written: bench/results.md, bench/results.png, README.md")


def raise_file_limit():
    """What is started inherits it. To more than it is at most only a superuser may raise it, and not everywhere."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, DESCRIPTORS), max(most, DESCRIPTORS)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def measured(all_peers, run, quick):
    """All figures, one after the other."""
    kinds, rounds = (QUICK, 2) if quick else (FULL, 10)
    distinct = [it for it in all_peers if not it.words]
    pillion = next(it for it in all_peers if it.name == "pillion")
    where = machine.described(all_peers)
    with on({LOAD_CORE}), Upstream(run) as upstream:
        return table.Results(
            where=where,
            is_quick=quick,
            pinned={
                tls: cost.side_by_side(all_peers, upstream, kinds, rounds, tls, pinned=True) for tls in (False, True)
            },
            unpinned={
                tls: cost.side_by_side(
                    all_peers, upstream, [load.GET_32] if quick else kinds, 1 if quick else 2, tls, pinned=False
                )
                for tls in (False, True)
            },
            steady={
                tls: cost.at_a_rate(all_peers, upstream, RATE, 2 if quick else 4, 1 if quick else 3, tls)
                for tls in (False, True)
            },
            memory={it.name: footprint.memory(it, upstream) for it in distinct},
            start={tls: footprint.starts(distinct, upstream, 3 if quick else 15, tls) for tls in (False, True)},
            size={it.name: it.stripped_bytes(run) for it in distinct},
            growth=growth.growth(pillion, upstream, 2 if quick else 7),
        )


if __name__ == "__main__":
    main()
