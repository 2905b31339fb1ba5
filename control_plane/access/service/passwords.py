"""Hash and check passwords with argon2id, few at a time: each costs 64 MiB and some tens of milliseconds."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

AT_ONCE = 2
WAITING = 16


class Passwords:
    """One per process. Strangers make it work, so how much at once is bounded."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobody: str | None = None

    @property
    def busy(self) -> bool:
        """Say whether so many wait already that another should come back later."""
        return self._waiting >= WAITING

    async def hash(self, password: str) -> str:
        async with self._turn:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def fits(self, known: str | None, password: str) -> bool:
        """Say whether a password fits a hash; where there is none it takes as long and is no."""
        self._waiting += 1
        try:
            if known is None and self._nobody is None:
                self._nobody = await self.hash("nobody")
            async with self._turn:
                right = await asyncio.to_thread(self._verify, known or self._nobody or "", password)
            return right and known is not None
        finally:
            self._waiting -= 1

    def is_old(self, known: str) -> bool:
        """Say whether a hash was made with weaker parameters than ours are now."""
        return self._hasher.check_needs_rehash(known)

    def _verify(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False
