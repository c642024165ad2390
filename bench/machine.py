"""Where a comparison was made: enough to judge it by, and nothing that names the machine."""

import datetime
import os
import platform
import re
from pathlib import Path


def described(peers):
    """Sentences for the head of the results."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    virtual = "virtual machine, " if re.search(r"\bhypervisor\b", Path("/proc/cpuinfo").read_text()) else ""
    kernel = ".".join(platform.release().split(".")[:2])
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    versions = ", ".join(f"{peer.name} {peer.version()}" for peer in peers if not peer.words)
    return (
        f"{datetime.date.today():%Y-%m-%d}; {virtual}{os.cpu_count()} cores, {cpu[1] if cpu else platform.machine()}; "
        f"Linux {kernel}, {system}; load average at the start {os.getloadavg()[0]:.1f}; {versions}."
    )
