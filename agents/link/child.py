"""A helper process that answers line by line, one question at a time; it ends when nobody has asked for a while.

What could crash, block or eat memory (a model, a hostile server's metadata) lives in such a process, not in the agent.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from typing import Final

_LINE_BYTES: Final = 1 << 20


class LineChild:
    """`python -m MODULE`, started when asked. `close` when done."""

    def __init__(
        self, module: str, timeout_s: float, idle_s: float = 20.0, environment: Mapping[str, str] | None = None
    ) -> None:
        self._module, self._timeout_s, self._idle_s = module, timeout_s, idle_s
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def ask(self, question: str) -> bytes:
        """Return the answer to one line.

        Raises:
            EOFError: the process died. asyncio.TimeoutError: it gave no answer in time, and was ended.
            OSError: it could not be started.
        """
        async with self._turn:
            try:
                return await self._asked(question)
            except BaseException:
                # Its late answer would be taken for the answer to the next question.
                await self._stop()
                raise

    async def close(self) -> None:
        async with self._turn:
            await self._stop()

    async def _asked(self, question: str) -> bytes:
        process = await self._running()
        if process.stdin is None or process.stdout is None:
            raise OSError("the process has no pipes")
        try:
            process.stdin.write(question.encode() + b"\n")
            line = await asyncio.wait_for(process.stdout.readline(), self._timeout_s)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError(self._module) from error
        if not line.endswith(b"\n"):
            raise EOFError(self._module)
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._let_go)
        return line

    async def _running(self) -> asyncio.subprocess.Process:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES, env=self._environment,
            )  # fmt: skip
        return self._process

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdin is not None and not self._turn.locked():
            self._process.stdin.close()
            self._process = None

    async def _stop(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
