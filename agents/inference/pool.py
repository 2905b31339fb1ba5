"""Qualification in a process of its own, shared by every agent of this one and ended when idle.

It imports neither numpy nor onnxruntime: an agent that is not qualifying does not carry them.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_LINE_BYTES: Final = 1 << 16
# One thread whatever library looks: the robot's other work owns the other cores.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Verdict:
    ok: bool
    reason: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


class QualifierPool:
    """One bundle at a time; the others wait their turn. `close` when done."""

    def __init__(self, timeout_s: float = 120.0, idle_s: float = 20.0) -> None:
        self._timeout_s, self._idle_s = timeout_s, idle_s
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None

    async def qualify(self, bundle: Path) -> Verdict:
        """Return the verdict on a bundle; one that crashes or blocks the worker twice does not qualify.

        Raises:
            OSError: the worker could not be started or could not read the bundle now.
        """
        async with self._turn:
            # Twice: once may be the machine's fault, for one that is short of memory kills somebody.
            first = await self._attempt(bundle)
            second = first if isinstance(first, Verdict) else await self._attempt(bundle)
            return second if isinstance(second, Verdict) else Verdict(ok=False, reason=second)

    async def close(self) -> None:
        async with self._turn:
            await self._stop()

    async def _attempt(self, bundle: Path) -> Verdict | str:
        """Return the verdict, or how the worker ended instead."""
        try:
            return await self._asked(bundle)
        except EOFError:
            ending = "the model crashed its worker"
        except asyncio.TimeoutError:
            ending = f"the model gave no result in {self._timeout_s:.0f} s"
        await self._stop()
        return ending

    async def _asked(self, bundle: Path) -> Verdict:
        process = await self._running()
        if process.stdin is None or process.stdout is None:
            raise OSError("the worker has no pipes")
        line = b""
        try:
            process.stdin.write(f"{bundle}\n".encode())
            line = await asyncio.wait_for(process.stdout.readline(), self._timeout_s)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error
        except asyncio.CancelledError:
            # Its late answer would be taken for the answer to the next question.
            await self._stop()
            raise
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        self._end_when_idle()
        if "trouble" in answer:
            raise OSError(answer["trouble"])
        return Verdict(answer["ok"], answer["reason"], answer["numbers"])

    async def _running(self) -> asyncio.subprocess.Process:
        if self._idle is not None:
            self._idle.cancel()
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agents.inference.worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES, env={**os.environ, **_ENVIRONMENT},
            )  # fmt: skip
        return self._process

    def _end_when_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_s, self._let_go)

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
