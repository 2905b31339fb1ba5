"""A file that is still coming: written by one thread, read back and hashed by another that follows it.

The hash is of what the file holds, not of what was received: what an earlier attempt left counts, and is hashed while
the rest comes. It may be torn or altered, so only the final digest is believed.
"""

import contextlib
import fcntl
import hashlib
import os
import threading
from pathlib import Path
from typing import Final

_CHUNK_BYTES: Final = 1 << 20


class Partial:
    """`received_bytes` is the length of the file; one process at a time holds it, and `close` ends its thread.

    Raises:
        OSError: the disk says no, or somebody else is writing this very file.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._fd).st_size > size_bytes:
                os.ftruncate(self._fd, 0)
            self.received_bytes = os.fstat(self._fd).st_size
        except BaseException:
            os.close(self._fd)
            raise
        self._chunk_bytes = max(1, min(size_bytes, _CHUNK_BYTES))  # what is small leaves no hole in the heap
        self._more, self._writing = threading.Condition(), threading.Lock()
        self._ended = self._abandoned = False
        self._failure: OSError | None = None
        self._digest = hashlib.sha256()
        self._follower = threading.Thread(target=self._follow, name="sha256", daemon=True)
        self._follower.start()

    def write(self, data: memoryview) -> None:
        """Append; what is written is found again after a kill, and after a power cut as far as the disk got."""
        while data:
            with self._writing:
                if self._abandoned:
                    raise OSError("the partial file was closed")
                written = os.pwrite(self._fd, data, self.received_bytes)
            data = data[written:]
            with self._more:
                self.received_bytes += written
                self._more.notify()

    def finish(self) -> str:
        """Make the bytes durable and return their sha256; "" if the file is not what was written to it.

        Raises:
            OSError: the disk failed.
        """
        os.fsync(self._fd)
        with self._more:
            self._ended = True
            self._more.notify()
        self._follower.join()
        if self._failure is not None:
            raise self._failure
        whole = os.fstat(self._fd).st_size == self.received_bytes
        return self._digest.hexdigest() if whole else ""

    def close(self) -> None:
        with self._more:
            self._ended = self._abandoned = True
            self._more.notify()
        self._follower.join()
        with self._writing, contextlib.suppress(OSError):
            os.close(self._fd)

    def _follow(self) -> None:
        buffer, at = memoryview(bytearray(self._chunk_bytes)), 0
        try:
            while count := self._due_bytes(at):
                read = os.preadv(self._fd, [buffer[:count]], at)
                if read == 0:
                    return  # cut short by somebody: the length will tell
                self._digest.update(buffer[:read])
                at += read
        except OSError as error:
            self._failure = error

    def _due_bytes(self, at: int) -> int:
        """Wait for bytes behind `at`; 0 when there will be none."""
        with self._more:
            self._more.wait_for(lambda: self._ended or self.received_bytes > at)
            return 0 if self._abandoned else min(self.received_bytes - at, self._chunk_bytes)
