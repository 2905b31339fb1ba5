"""A 10 GB model from the server into a slot, in MB/s: fetched, hashed, made durable, staged.

Measured: a device's own downloader and slots in a process of their own that has the whole agent in memory, from nginx
on the same machine and disk. The bytes are received, written, read back and hashed behind the writer, synced, and
linked into the slot. `update_resumed` is the same with ten SIGKILLs on the way; what the server sent beyond one model
is the part fetched twice. Ceiling: one process that reads the same file in pieces of 1 MiB, hashes each, writes it and
syncs at the end, as `cp` with `sha256sum` would do in one go. Before every round the disk is synced and the file
dropped from the page cache, so both read it from the disk they write to. The device hashes beside its writing and the
ceiling does not, so more than 1 is possible where hashing is slow and the disk is not. The model is smaller where the
disk would not take it five times, and the note says how large it was.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.protocol.v1 import canonical_json, digest_of
from tests.bench.figure import Figure, cost, rate, say
from tests.bench.nginx import PROGRAM, static_files

FULL: Final = 10_000 << 20
ROUNDS, KILLS = 2, 10
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Model:
    path: Path
    digest: str
    size_bytes: int

    def forget(self) -> None:
        """Drop it from the page cache, and let the disk finish what earlier rounds wrote."""
        os.sync()
        with self.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def release(self) -> bytes:
        file = {"path": "model.onnx", "size_bytes": self.size_bytes, "sha256": self.digest}
        content = {"schema": "fleetloop.content/v1", "model": "large",
                   "files": [file | {"media_type": "application/vnd.onnx", "role": "model"}]}  # fmt: skip
        return canonical_json(
            {"schema": "fleetloop.release/v1", "model": "large", "version": 1, "counter": 1, "content": content,
             "device_classes": ["bench"], "content_digest": digest_of(content)}
        )  # fmt: skip


def made(folder: Path) -> Model:
    size = min(FULL, shutil.disk_usage(folder).free // 5 // _BLOCK * _BLOCK)
    block, digest, path = os.urandom(_BLOCK), hashlib.sha256(), folder / "new.bin"
    with path.open("wb") as file:
        for number in range(size // _BLOCK):
            piece = number.to_bytes(8, "big") + block[8:]
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    target = folder / "files" / "device" / "v1" / "blobs" / "sha256" / digest.hexdigest()
    target.parent.mkdir(parents=True)
    path.rename(target)
    return Model(target, digest.hexdigest(), size)


def copy_s(model: Model, target: Path) -> float:
    model.forget()
    begun, digest = time.perf_counter(), hashlib.sha256()
    with model.path.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while piece := reader.read(_BLOCK):
            digest.update(piece)
            writer.write(piece)
        os.fsync(writer.fileno())
    took_s = time.perf_counter() - begun
    target.unlink()
    return took_s


def start(model: Model, url: str, folder: Path) -> "subprocess.Popen[str]":
    release = folder / "release.json"
    release.write_bytes(model.release())
    command = [sys.executable, "-m", "tests.bench.one_update", url, str(folder / "device"), str(release)]
    return subprocess.Popen([*command, model.digest, str(model.size_bytes)], stdout=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]", folder: Path) -> dict[str, Any]:
    lines = process.communicate()[0].splitlines()
    if process.returncode != 0:
        raise RuntimeError(f"the update failed with {process.returncode}")
    for slot in (folder / "device").glob("slots/*/*"):
        slot.chmod(0o755)
    shutil.rmtree(folder / "device")
    done: dict[str, Any] = json.loads(lines[-1])
    return done


def killed_on_the_way(model: Model, url: str, folder: Path) -> dict[str, Any]:
    partial = folder / "device" / "blobs" / "partial" / model.digest
    for number in range(1, KILLS + 1):
        process = start(model, url, folder)
        while not partial.exists() or partial.stat().st_size < model.size_bytes * number // (KILLS + 1):
            if process.poll() is not None:
                raise RuntimeError("the update ended before it could be killed")
            time.sleep(0.01)
        process.kill()
        process.communicate()
    return ended(start(model, url, folder), folder)


def sent_bytes(home: Path) -> int:
    """Return what nginx has sent since the last time, broken connections included."""
    time.sleep(1.0)
    log = home / "access.log"
    total = sum(int(line.split(chr(34))[2].split()[1]) for line in log.read_text().splitlines())
    os.truncate(log, 0)
    return total


def bench() -> Iterable[Figure]:
    if PROGRAM is None:
        say("update: nginx is not installed, there is nobody to send a model")
        return
    with tempfile.TemporaryDirectory(prefix="fleetloop-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker is another user where we are root
        model = made(folder)
        with static_files(folder / "files", folder / "nginx") as url:
            yield from _figures(model, url, folder)


def _figures(model: Model, url: str, folder: Path) -> Iterable[Figure]:
    plain, whole, peaks = [], [], []
    megabytes = model.size_bytes / 1e6
    for number in range(ROUNDS):
        plain.append(megabytes / copy_s(model, folder / "copy.bin"))
        model.forget()
        done = ended(start(model, url, folder), folder)
        whole.append(megabytes / done["took_s"])
        peaks.append(done["peak_mb"] - done["idle_mb"])
        say(f"update: round {number + 1}: {whole[-1]:.0f} MB/s, copy {plain[-1]:.0f} MB/s, +{peaks[-1]:.0f} MB")
    sent_bytes(folder / "nginx")
    model.forget()
    begun = time.perf_counter()
    killed_on_the_way(model, url, folder)
    resumed = megabytes / (time.perf_counter() - begun)
    twice = sent_bytes(folder / "nginx") - model.size_bytes
    size = f"{model.size_bytes / 1e9:.1f} GB in one file"
    yield rate("update", whole, plain, "MB/s", size)
    yield rate("update_resumed", [resumed], plain, "MB/s", f"{size}, {KILLS} kills and starts of the agent in it")
    yield cost("update_memory", max(peaks), 64, "MB above idle", "less is better; the floor is the bound")
    share = 100 * twice / model.size_bytes
    note = f"less is better; the floor is the bound; {KILLS} kills"
    yield cost("update_fetched_twice", share, 1.0, "% of the model", note)
