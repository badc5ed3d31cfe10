"""How long a command takes, by the processor: other work on the machine hardly lengthens that, and
the clock's time a lot.
"""

from __future__ import annotations

import os
import subprocess


def least_seconds(count: int, command: list) -> float:
    """Processor time of the quickest of a few runs, children of this process, in seconds."""
    seconds = []
    for _ in range(count):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
    return min(seconds)
