"""A helper process seen from the agent: a question goes in, stages and one answer come out, a JSON object per line.

What could crash, block or eat memory (a model, a hostile server's metadata) lives in such a process, not in the agent.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

_LINE_BYTES: Final = 1 << 20
Stage = Callable[[str, float], None]


class Child:
    """`python -m MODULE`, started when asked; one question at a time, whoever shares it keeps the turns."""

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._module, self._environment = module, environment or {}
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, question: Mapping[str, Any], limit_s: float, stage: Stage | None = None) -> dict[str, Any]:
        """Return the answer; `stage` hears what the process is at. Whoever gives up waiting must `stop` it.

        Raises:
            EOFError: the process died. asyncio.TimeoutError: no answer in time. OSError: it cannot be started.
        """
        process = await self._running()
        if process.stdin is None:
            raise OSError("the process has no pipes")
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError(self._module) from error
        until_s = time.monotonic() + limit_s
        while True:
            answer = await self._line(process, until_s - time.monotonic())
            if "stage" not in answer:
                return answer
            if stage is not None:
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
            raise OSError("the process has no pipes")
        try:
            line = await asyncio.wait_for(process.stdout.readline(), max(0.0, limit_s))
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:  # cut short, or longer than a line may be
            raise EOFError(f"{self._module} died") from error
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment}, start_new_session=True,
            )  # fmt: skip
        return self._process
