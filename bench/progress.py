"""What is going on, and since when."""

import time

BEGAN = time.monotonic()


def seconds():
    """Since the comparison began."""
    return time.monotonic() - BEGAN


def step(what):
    """Tells the person who waits."""
    print(f"{seconds():5.0f} s  {what}", flush=True)
