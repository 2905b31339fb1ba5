"""The process that talks TUF: a question per line in, an answer per line out. It ends with its input.

python-tuf and whatever a hostile server feeds it stay in here, under a memory limit: the agent carries neither. The
cache is python-tuf's; what must survive the cache's loss (floors, policy, revocations) is kept by `anchor`.
"""

import contextlib
import fcntl
import json
import os
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root, Timestamp
from tuf.ngclient import Updater, UpdaterConfig

from agents.link.metadata import BoundedFetcher, MetadataLimits, Tls

MEMORY_BYTES: Final = 1 << 30
# What is not verified yet is parsed already, and JSON may grow thirtyfold in memory: the limits hold that below 64 MiB.
_CONFIG: Final = UpdaterConfig(snapshot_max_length=512 << 10, targets_max_length=1 << 20)


@dataclass(frozen=True)
class Question:
    """`root` is the pinned root file, `paths` the targets to look up."""

    cache: str
    root: str
    url: str
    paths: tuple[str, ...] = ()
    tls: Tls | None = None
    limits: MetadataLimits = field(default_factory=MetadataLimits)


@dataclass(frozen=True)
class Listed:
    """What TUF says of a target."""

    sha256: str
    length_bytes: int


@dataclass(frozen=True)
class Answer:
    """`revision` is the timestamp's version, `signers` the key ids of that role: their change resets its versions."""

    revision: int
    root_version: int
    signers: tuple[str, ...]
    targets: dict[str, Listed | None]
    requests: int


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_reply(line)) + "\n")
        sys.stdout.flush()


def _reply(line: str) -> dict[str, Any]:
    try:
        plain = json.loads(line)
        question = Question(
            **{
                **plain,
                "tls": Tls(**plain["tls"]) if plain.get("tls") else None,
                "limits": MetadataLimits(**plain.get("limits", {})),
            }
        )
        return {"answer": asdict(ask(question))}
    except Exception as error:  # noqa: BLE001 - whatever a hostile server provokes is an answer: nothing is believed
        return {"error": reason_of(error), "message": f"{type(error).__name__}: {error}"[:400]}


def ask(question: Question) -> Answer:
    """Refresh the metadata and look targets up.

    Raises:
        RepositoryError: the repository is not to be believed. DownloadError: it could not be reached.
    """
    with _only_one(Path(question.cache)):
        fetcher = BoundedFetcher(question.limits, question.tls)
        updater = open_updater(question, fetcher)
        updater.refresh()
        targets = {path: _listed(updater, path) for path in question.paths}
        # What was verified a moment ago lies in the cache, which nobody else writes meanwhile.
        timestamp = Metadata[Timestamp].from_file(f"{question.cache}/timestamp.json").signed
        root = Metadata[Root].from_file(f"{question.cache}/root.json").signed
        signers = tuple(sorted(root.roles["timestamp"].keyids))
        return Answer(timestamp.version, root.version, signers, targets, fetcher.requests)


def open_updater(question: Question, fetcher: BoundedFetcher, bootstrap: bytes | None = None) -> Updater:
    root = bootstrap if bootstrap is not None else Path(question.root).read_bytes()
    cache = Path(question.cache)
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Updater(
        str(cache), question.url, target_dir=None, target_base_url=None, fetcher=fetcher, config=_CONFIG,
        bootstrap=root,
    )  # fmt: skip


def reason_of(error: BaseException) -> str:
    """Return the code of a failure, as it goes into reports."""
    if isinstance(error, ExpiredMetadataError) and "root" in str(error):
        # A root that was never renewed, or one missing in the chain of roots: people must look.
        return "root_chain_broken"
    for kind, code in _REASONS:
        if isinstance(error, kind):
            return code
    return "trust_failed"


_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (ExpiredMetadataError, "metadata_expired"),
    (BadVersionNumberError, "metadata_rollback"),
    (UnsignedMetadataError, "metadata_unsigned"),
    (DownloadLengthMismatchError, "metadata_too_large"),
    (SlowRetrievalError, "too_slow"),
    (DownloadError, "server_unreachable"),
    (RepositoryError, "metadata_invalid"),
    (MemoryError, "metadata_too_large"),
    (OSError, "disk_error"),
)


def _listed(updater: Updater, path: str) -> Listed | None:
    found = updater.get_targetinfo(path)
    return None if found is None else Listed(found.hashes["sha256"], found.length)


@contextlib.contextmanager
def _only_one(cache: Path) -> Iterator[None]:
    # python-tuf does not lock its cache.
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Nothing is written through a link that somebody left there.
    lock = os.open(cache / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()
