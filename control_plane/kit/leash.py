"""Runs one command on a leash: when whoever holds stdin dies, the command and all its children die too.

`python leash.py USAGE_FILE COMMAND...` exits as the command does (128 + signal if it was killed) and leaves its CPU
seconds and peak memory in USAGE_FILE. Standard library only, so that it starts in milliseconds.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def _watch(child: "subprocess.Popen[bytes]") -> None:
    sys.stdin.buffer.read()  # returns only when the other end is gone
    _kill_group(child)


def main() -> int:
    usage_file, command = Path(sys.argv[1]), sys.argv[2:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: _kill_group(child))
    threading.Thread(target=_watch, args=(child,), daemon=True).start()
    code = child.wait()
    _kill_group(child)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    scale = 1 if sys.platform == "darwin" else 1024
    usage = {"cpu_s": used.ru_utime + used.ru_stime, "peak_rss_bytes": used.ru_maxrss * scale}
    usage_file.write_text(json.dumps(usage))
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    os._exit(main())  # the watcher may still be reading
