"""A real TUF client against the real server, and homes with real keys."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from control_plane.kit.context import Context
from control_plane.registry import service
from control_plane.registry.service import KeyPlan, init_keys


class CountingFetcher(Urllib3Fetcher):
    """Notes what is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Any:
        self.asked.append(url.split("/device/v1/tuf/", 1)[-1])
        return super()._fetch(url)


@dataclass
class TufClient:
    """python-tuf's own client with a cache that stays between refreshes."""

    url: str
    folder: Path
    root: bytes
    asked: list[str] = field(default_factory=list)

    async def fetch(self, *paths: str) -> dict[str, bytes | None]:
        """Refresh, and return these targets' bytes; None for what is not listed."""
        return await asyncio.to_thread(self._work, paths)

    async def refresh(self) -> int:
        """Refresh; return the timestamp version seen."""
        await self.fetch()
        return self.version("timestamp")

    def version(self, role: str) -> int:
        from tuf.api.metadata import Metadata  # noqa: PLC0415 - only here

        found: Metadata[Any] = Metadata.from_file(str(self.folder / "meta" / f"{role}.json"))
        return int(found.signed.version)

    def _work(self, paths: tuple[str, ...]) -> dict[str, bytes | None]:
        (self.folder / "meta").mkdir(parents=True, exist_ok=True)
        (self.folder / "targets").mkdir(exist_ok=True)
        fetcher = CountingFetcher()
        base = f"{self.url}/device/v1/tuf/"
        updater = Updater(
            str(self.folder / "meta"), base, str(self.folder / "targets"), f"{base}targets/", fetcher,
            UpdaterConfig(), bootstrap=self.root,
        )  # fmt: skip
        updater.refresh()
        found = {path: self._get(updater, path) for path in paths}
        self.asked = fetcher.asked
        return found

    def _get(self, updater: Updater, path: str) -> bytes | None:
        info = updater.get_targetinfo(path)
        if info is None:
            return None
        return Path(updater.find_cached_target(info) or updater.download_target(info)).read_bytes()


def make_home(home: Path, plan: KeyPlan | None = None) -> bytes:
    """Make the keys of a home; return its first root."""
    init_keys(home / "keys", datetime.now(UTC), plan)
    return (home / "keys" / "signed" / "1.root.json").read_bytes()


async def publish(context: Context, files: dict[str, bytes], **values: Any) -> int:
    async with context.database.transaction() as session:
        return await service.publish_targets(session, context.objects, context.keyring, files, **values)


def shift_clock(monkeypatch: Any, by: Any) -> Callable[[], datetime]:
    """Move the server's clock, which is read in one place."""
    from control_plane.kit import clock  # noqa: PLC0415 - the real one, before it is replaced

    def now() -> datetime:
        return datetime.now(UTC) + by

    monkeypatch.setattr(clock, "now", now)
    return now


async def forget_tokens(url: str) -> None:
    """Let a second server of the same database make its test tokens."""
    connection = await asyncpg.connect(url)
    await connection.execute("delete from kit_token")
    await connection.close()
