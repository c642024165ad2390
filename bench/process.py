"""A process that the comparison starts, with its children: their CPU time, their memory, their end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

cores = sorted(os.sched_getaffinity(0))
if len(cores) < 2:
    sys.exit("two cores are needed: one for the proxy, one for the load")
LOAD_CORE, PROXY_CORE = cores[:2]
BOTH = {PROXY_CORE, LOAD_CORE}


@contextlib.contextmanager
def on(cores):
    """What is started meanwhile runs on these cores, and so does this process."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Memory:
    """In KiB, of all processes together. Rss counts what they share once for each."""

    rss: int
    pss: int


class Process:
    """Leads a group of its own: so its children are found, and Ctrl-C reaches only who ends them."""

    def __init__(self, command, log, environment=None):
        with open(log, "wb") as stderr:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=os.environ | (environment or {}),
                start_new_session=True,
            )
        self._log = Path(log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def insist(self):
        """Raises what the process said if it has ended."""
        if self._popen.poll() is not None:
            said = self._log.read_text(errors="replace").strip()
            raise RuntimeError(f"{self._popen.args[0]} has ended: {said}")

    def move(self, cores):
        """From now on it runs on these cores. For processes of one thread."""
        for pid in self._pids():
            os.sched_setaffinity(pid, cores)

    def cpu_seconds(self):
        """User and system time, of threads that have ended too (clock_getcpuclockid(3))."""
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self._pids())

    def memory(self):
        """What smaps_rollup says."""
        rss = pss = 0
        for pid in self._pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, value, *_ = line.split()
                rss += int(value) if name == "Rss:" else 0
                pss += int(value) if name == "Pss:" else 0
        return Memory(rss, pss)

    def _pids(self):
        pids = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[2]) == self._popen.pid:
                    pids.append(int(stat.parent.name))
        return pids
