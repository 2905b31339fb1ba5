"""The worker process seen from the agent: a question goes in, stages and one answer come out.

It imports neither numpy nor onnxruntime: an agent that is not qualifying does not carry them.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

_LINE_BYTES: Final = 1 << 16
_ENDS: Final = ("done", "refused", "trouble", "died")
# One thread whatever library looks: the robot's other work owns the other cores.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
Stage = Callable[[str, float], None]


class Worker:
    """One question at a time; whoever shares it keeps the turns. It starts when asked."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, question: dict[str, Any], limit_s: float, stage: Stage) -> dict[str, Any]:
        """Return the answer; `stage` hears what the worker is at.

        Raises:
            EOFError: the worker died. asyncio.TimeoutError: no answer in time. OSError: it cannot be started.
        """
        process = await self._running()
        if process.stdin is None:
            raise OSError("the worker has no pipes")
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error
        until_s = time.monotonic() + limit_s
        while True:
            answer = await self._line(process, until_s - time.monotonic())
            if any(end in answer for end in _ENDS):
                return answer
            stage(str(answer["stage"]), float(answer["value"]))

    def let_go(self) -> None:
        """Close its input: it ends by itself."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process = None

    async def stop(self) -> None:
        """End it and everything it started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _line(self, process: asyncio.subprocess.Process, limit_s: float) -> dict[str, Any]:
        if process.stdout is None:
            raise OSError("the worker has no pipes")
        try:
            line = await asyncio.wait_for(process.stdout.readline(), max(0.0, limit_s))
        except ValueError as error:
            raise EOFError("the worker said more than a line may hold") from error
        if not line.endswith(b"\n"):
            raise EOFError("the worker died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agents.inference.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES, env={**os.environ, **_ENVIRONMENT}, start_new_session=True,
            )  # fmt: skip
        return self._process
