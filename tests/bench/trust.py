"""What trust costs a device: a refresh of TUF metadata in ms and requests, and the judging of a release in ms.

`trust_cold` is a device without any metadata: the helper process is started, python-tuf fetches root, timestamp,
snapshot, targets and the delegated roles of one release from the real API, and every signature is checked. The floor
is as many plain GETs of the same API over one connection. `trust_warm` is the same with the helper running and all
metadata there; the floor is again as many GETs as it made. `admission` judges the attestations of one release (training
provenance, a gate with 200 parts, three people) with the agent's own code; the floor is the five signature checks.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from agents.link import Enrolment, enrol, new_http
from agents.link.identity import root_path
from agents.protocol.v1.admission import Wish, admit, bundle_bytes, read_bundle
from agents.protocol.v1.statement import PROVENANCE, TEST_RESULT
from agents.protocol.v1.trust import POLICY_PATH, REVOCATIONS_PATH, Revocations, attestations_path, release_path
from agents.sdk import StateDir
from agents.update import Anchor, TufProcess
from agents.update.metadata import Question, ask
from control_plane.cli.stack import Stack
from control_plane.fleet.schemas import DeviceClassPut, EnrolmentTokenCreate
from tests.bench.figure import Figure, cost, say
from tests.bench.stage import CLASS, client_of, installation
from tests.support.trust import CLASS as ROBOT
from tests.support.trust import NOW, Ring, approved, gate_result, provenance, release, release_digest, sealed

ROUNDS: Final = 7
PARTS: Final = 200
_PATHS: Final = (POLICY_PATH, REVOCATIONS_PATH, release_path("0" * 64), attestations_path("0" * 64))


async def _enrolled(stack: Stack, folder: Path) -> StateDir:
    client = client_of(stack)
    client.put_device_class(CLASS, DeviceClassPut(title="bench"))
    token = client.create_enrolment_token(EnrolmentTokenCreate(device_class=CLASS)).token
    state = StateDir(folder)
    wish = Enrolment(server=stack.url, token=SecretStr(token), serial="trust", device_class=CLASS, site="north")
    async with new_http() as http:
        await enrol(http, state, wish)
    return state


def _requests(state: StateDir, url: str, cache: Path) -> tuple[int, int]:
    """Return how many requests a cold and a warm refresh make."""
    question = Question(str(cache), str(root_path(state)), url, _PATHS)
    return ask(question).requests, ask(question).requests


def _gets_ms(url: str, count: int) -> float:
    with httpx.Client(base_url=url) as http:
        http.get("/healthz")
        begun = time.perf_counter()
        for _ in range(count):
            http.get("/healthz")
        return 1e3 * (time.perf_counter() - begun)


async def _refreshes_ms(state: StateDir, url: str, folder: Path) -> tuple[list[float], list[float]]:
    """Return cold refreshes, each in a new process with an empty cache, and warm ones."""
    root = root_path(state).read_bytes()
    cold: list[float] = []
    warm: list[float] = []
    for number in range(ROUNDS):
        home = folder / f"anchor-{number}"
        home.mkdir()
        (home / "root.json").write_bytes(root)
        anchor, process = Anchor(home), TufProcess()
        try:
            for found in (cold, warm):
                begun = time.perf_counter()
                await process.ask(anchor, url, None, _PATHS)
                found.append(1e3 * (time.perf_counter() - begun))
        finally:
            await process.close()
    return cold, warm


def _refresh() -> Iterable[Figure]:
    with installation() as stack, tempfile.TemporaryDirectory(prefix="fleetloop-bench-") as name:
        folder, url = Path(name), f"{stack.url}/device/v1/tuf"
        state = asyncio.run(_enrolled(stack, folder / "device"))
        requests = _requests(state, url, folder / "counted")
        cold, warm = asyncio.run(_refreshes_ms(state, url, folder))
        for kind, found, count in (("cold", cold, requests[0]), ("warm", warm, requests[1])):
            note = f"{count} requests; less is better; rounds {min(found):.0f} to {max(found):.0f}"
            yield cost(f"trust_{kind}", median(found), _gets_ms(stack.url, count), "ms", note)


def _best_ms(work: Callable[[], object], rounds: int = 200) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - begun))
    return median(taken)


def _admission() -> Figure:
    ring, manifest = Ring(), release()
    parts = tuple(f"{ROBOT}/suite-{number:03d} non_inferior" for number in range(PARTS))
    people = ("ada", "bo", "cy")
    envelopes = [
        sealed(PROVENANCE, manifest.content_digest, provenance(), ring.trainer),
        sealed(TEST_RESULT, manifest.content_digest, gate_result(passedTests=parts), ring.gate),
        *(approved(ring, manifest, name) for name in people),
    ]
    data, policy = bundle_bytes(envelopes), ring.policy()
    wish = Wish(manifest, release_digest(manifest), ROBOT, NOW + timedelta(hours=1), None)
    value = _best_ms(lambda: admit(policy, Revocations(epoch=0), wish, read_bundle(data)))
    note = f"gate of {PARTS} parts, {len(people)} people, {len(data)} bytes; the floor is {len(envelopes)} bare checks"
    return cost("admission", value, _bare_checks_ms(len(envelopes), len(data) // len(envelopes)), "ms", note)


def _bare_checks_ms(count: int, size_bytes: int) -> float:
    key, data = Ed25519PrivateKey.generate(), b"x" * size_bytes
    signature, public = key.sign(data), key.public_key()

    def check() -> None:
        for _ in range(count):
            public.verify(signature, data)

    return _best_ms(check)


def bench() -> Iterable[Figure]:
    say("trust: judging a release")
    yield _admission()
    say("trust: refreshing metadata from the API")
    yield from _refresh()
