"""Facts any Linux machine has: /proc and the file system. It starts no process."""

import os
import platform
import shutil
from pathlib import Path

from agents.platform.reading import Facts, number, text


def read(state_dir: Path, proc: Path = Path("/proc")) -> Facts:
    facts: Facts = {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu_count": os.cpu_count() or 0,
        "disk_free_mb": shutil.disk_usage(state_dir).free >> 20,
    }
    load = text(proc / "loadavg")
    if load:
        facts["load_1m"] = number(load.split()[0])
    uptime = text(proc / "uptime")
    if uptime:
        facts["uptime_s"] = number(uptime.split()[0])
    facts.update(_memory(text(proc / "meminfo") or ""))
    return {name: value for name, value in facts.items() if value is not None}


def _memory(table: str) -> Facts:
    wanted = {"MemTotal:": "memory_mb", "MemAvailable:": "memory_available_mb"}
    rows = (line.split() for line in table.splitlines())
    return {wanted[row[0]]: int(row[1]) >> 10 for row in rows if len(row) > 1 and row[0] in wanted}
