"""The real journal and the real slots, with a process that dies before and after every write and every effect."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from agents.inference import Verdict
from agents.link import BlobStore, DeviceClient, Downloader, DownloadLimits
from agents.protocol.v1 import BundleFile, FileRole, ReleaseManifest, sha256_hex
from agents.protocol.v1 import DeploymentPhase as P
from agents.sdk import StateDir
from agents.sdk.signals import Signals
from agents.update import Journal, Policy, Slot, Slots, State, Target, UpdateEffects, UpdateLoop
from agents.update.slots import DamagedError, empty
from agents.update.trust import Order, RefusedError, read_release
from tests.agent.bundles import Built, files, release
from tests.agent.server import FleetServer


class PowerCutError(BaseException):
    """Nothing catches this, as nothing catches a power cut."""


class Fuse:
    """Counts the points at which the power may go, and cuts it at one of them."""

    def __init__(self, at: int | None) -> None:
        self._left = at
        self.points: list[str] = []

    def point(self, name: str) -> None:
        self.points.append(name)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise PowerCutError(name)


class CutJournal(Journal):
    def __init__(self, path: Path, fuse: Fuse) -> None:
        super().__init__(path)
        self._fuse = fuse

    def write(self, state: State, because: str) -> None:
        self._fuse.point(f"before journal {state.phase.value}")
        super().write(state, because)
        self._fuse.point(f"after journal {state.phase.value}")


class CutEffects(UpdateEffects):
    """The real effects; each switch and each staging has a point before, after and, for staging, in the middle."""

    def __init__(self, fuse: Fuse, journal: Journal, **parts: Any) -> None:
        super().__init__(**parts)
        self._fuse, self._journal = fuse, journal

    def stage(self, slot: Slot) -> None:
        assert self._journal.read(None).candidate == slot, "the journal knows before it happens"
        self._fuse.point("before stage")
        super().stage(slot)
        self._fuse.point("after stage")

    def switch(self, slot: Slot | None) -> None:
        assert self._journal.read(None).active == slot, "the journal knows before it happens"
        self._fuse.point("before switch")
        super().switch(slot)
        self._fuse.point("after switch")

    def collect(self) -> None:
        self._fuse.point("before collect")
        super().collect()
        self._fuse.point("after collect")


class Believes:
    """What is trusted is tested elsewhere."""

    async def admit(self, target: Target, release: ReleaseManifest, release_bytes: bytes) -> None:
        assert sha256_hex(release_bytes) == target.release_digest

    def evidence(self, release_digest: str) -> bytes | None:
        return b"{}\n"

    def forget(self, wanted: Collection[str]) -> None:
        """Nothing is kept."""


class Judge:
    def __init__(self, ok: bool = True) -> None:
        self.ok = ok

    async def qualify(self, bundle: Path) -> Verdict:
        assert (bundle / "model.onnx").exists()
        return Verdict(self.ok, "" if self.ok else "golden vectors differ", {"latency_p99_ms": 1.0})


class Bench:
    """One device's disk and server; every `process` is a new agent on it."""

    def __init__(self, state: StateDir, client: DeviceClient, server: FleetServer) -> None:
        self.state, self.client, self.server = state, client, server
        self.signals, self.blobs = Signals(state.signals), BlobStore(state.blobs)
        self.slots = Slots(state, self.blobs)
        self.judge = Judge()
        self.time_s = 0.0
        self.seen_running: set[str | None] = set()

    def process(self, fuse: Fuse | None = None, policy: Policy | None = None) -> UpdateLoop:
        fuse = fuse or Fuse(None)
        # A new process knows nothing of which files were read before.
        self.blobs = BlobStore(self.state.blobs)
        self.slots = Slots(self.state, self.blobs)
        journal = CutJournal(self.state.private / "journal.db", fuse)
        limits = DownloadLimits(disk_reserve_bytes=0)
        effects = CutEffects(
            fuse,
            journal,
            slots=self.slots,
            downloader=Downloader(self.client, self.blobs, limits),
            signals=self.signals,
            qualifier=self.judge,
            device_class="test",
            trust=Believes(),
        )
        return UpdateLoop(journal, effects, self.slots.running(), policy, lambda: self.time_s)

    async def drive(self, loop: UpdateLoop, built: Built | None, until: Callable[[], bool], steps: int = 60) -> None:
        """Advance until the condition holds; time runs, so that what failed is tried again."""
        await loop.check_slots()
        target = None if built is None else _target(built)
        loop.ordered(Order(target, 3600.0), self.time_s)
        for _ in range(steps):
            await loop.advance()
            self.seen_running.add(self.runnable())
            if until():
                return
            if loop._task is not None:
                await loop._task
            self.time_s += 61.0 if loop._found.trouble else 0.001
            loop.ordered(Order(target, 3600.0), self.time_s)
        raise AssertionError(f"stuck in {loop.state.phase} {loop.state.reason} {loop.state.detail}")

    async def install(self, built: Built, fuse: Fuse | None = None) -> UpdateLoop:
        loop = self.process(fuse)
        try:
            await self.drive(loop, built, lambda: self.speak(loop) and loop.state.phase is P.COMMITTED)
        finally:
            await loop.close()
        return loop

    def speak(self, loop: UpdateLoop, *, ok: bool = True) -> bool:
        """Be the application: it says how the model runs as soon as it is on trial."""
        if loop.state.phase is P.TRIAL and loop.state.active is not None:
            self.signals.put_health(loop.state.active.content_digest, ok=ok, reason="")
        return True

    def runnable(self) -> str | None:
        """Return the content that runs, after reading all of it; None if the device has none."""
        running = self.slots.running()
        if self.slots.linked() is None:
            return None
        assert running is not None
        assert self.slots.intact(running), "the active bundle is whole and verified"
        return running.content_digest


MILLION_FILES = b"1," * 1_000_000


def tamper(path: Path) -> None:
    """Change a read-only file and make it look as it did."""
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(bytes(times.st_size))
    path.chmod(times.st_mode & 0o777)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _target(built: Built) -> Target:
    order = built.order
    return Target(order.release_digest, order.size_bytes, order.counter, order.rollout_id)


@pytest.fixture
def bench(state: StateDir, client: DeviceClient, server: FleetServer) -> Bench:
    return Bench(state, client, server)


async def points_of_an_update(bench: Bench) -> list[str]:
    await bench.install(release(bench.server, 1, files(1.0)))
    fuse = Fuse(None)
    await bench.install(release(bench.server, 2, files(2.0)), fuse)
    return fuse.points


async def test_an_update_writes_before_it_acts(bench: Bench) -> None:
    points = await points_of_an_update(bench)
    assert points[:2] == ["before journal downloading", "after journal downloading"]
    assert points.index("after journal trial") < points.index("before switch")
    assert points.index("after journal verified") < points.index("before stage")
    assert len(points) >= 18


@pytest.mark.parametrize("at", range(24))
async def test_c41_a_power_cut_anywhere_leaves_a_model_and_the_update_ends_well(bench: Bench, at: int) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    fuse = Fuse(at)
    try:
        await bench.install(new, fuse)
    except PowerCutError:
        assert bench.runnable() in {old.content_digest, new.content_digest}
    else:
        assert at >= len(fuse.points), "there are more points than this test tries"
    await bench.install(new)
    assert bench.runnable() == new.content_digest
    assert bench.process().state.floor == 2


async def test_c41_a_power_cut_in_the_middle_of_staging(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    place, fuse = Slots._place, Fuse(1)

    def cut(slots: Slots, file: Any, target: Path) -> None:
        fuse.point(file.path)
        place(slots, file, target)

    monkeypatch.setattr(Slots, "_place", cut)
    with pytest.raises(PowerCutError):
        await bench.install(new)
    monkeypatch.undo()
    assert bench.runnable() == old.content_digest
    await bench.install(new)
    assert bench.runnable() == new.content_digest


@pytest.mark.parametrize("at", range(6))
async def test_a_power_cut_during_a_revert_still_reverts(bench: Bench, at: int) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    await loop.close()
    bench.signals.put_health(new.content_digest, ok=False, reason="it spins")
    loop = bench.process(Fuse(at))
    try:
        await bench.drive(loop, new, lambda: loop.state.phase is P.REVERTED)
    except PowerCutError:
        assert bench.runnable() is not None
    await loop.close()
    bench.signals.put_health(new.content_digest, ok=False, reason="it spins")
    loop = bench.process()
    await bench.drive(loop, new, lambda: bench.speak(loop, ok=False) and loop.state.phase is P.REVERTED)
    assert bench.runnable() == old.content_digest
    await loop.close()


async def test_c42_a_model_that_fails_goes_back_and_is_not_tried_again(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop = bench.process()
    await bench.drive(loop, new, lambda: bench.speak(loop, ok=False) and loop.state.phase is P.REVERTED)
    assert bench.runnable() == old.content_digest
    # The server changes its mind twice: the same counter is refused, a new one is taken.
    await bench.drive(loop, old, lambda: loop.state.phase is P.COMMITTED)
    await bench.drive(loop, new, lambda: loop.state.reason == "known_bad")
    again = release(bench.server, 3, files(2.0))
    await bench.drive(loop, again, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_c42_a_first_install_that_fails_leaves_no_model(bench: Bench) -> None:
    loop = bench.process()
    new = release(bench.server, 1, files(1.0))
    await bench.drive(loop, new, lambda: bench.speak(loop, ok=False) and loop.state.phase is P.REVERTED)
    assert bench.runnable() is None
    assert loop.running() is None
    await loop.close()


async def test_an_old_word_does_not_decide_a_new_trial(bench: Bench) -> None:
    loop = bench.process()
    new = release(bench.server, 1, files(1.0))
    bench.signals.put_health(new.content_digest, ok=True, reason="said about an earlier run")
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL and loop.state.reason == "awaiting_health")
    await loop.advance()
    assert loop.state.phase is P.TRIAL
    bench.time_s += 301
    await loop.advance()
    assert (loop.state.phase, loop.state.reason) == (P.REVERTED, "no_health_report")
    await loop.close()


async def test_a_moving_robot_is_left_alone(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    new = release(bench.server, 2, files(2.0))
    bench.signals.put_motion(safe_to_switch=False)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "moving")
    assert loop.report() is not None
    bench.signals.put_motion(safe_to_switch=True)
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    await loop.close()


async def test_an_order_that_expired_is_not_acted_on(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    new = release(bench.server, 2, files(2.0))
    bench.signals.put_motion(safe_to_switch=False)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "moving")
    bench.time_s += 3601
    bench.signals.put_motion(safe_to_switch=True)
    await loop.advance()
    assert (loop.state.phase, loop.state.reason) == (P.ARMED, "order_expired")
    await loop.close()


@pytest.mark.parametrize("phase", [P.DOWNLOADING, P.ARMED, P.TRIAL])
async def test_an_order_withdrawn_midway_ends_with_what_ran_before(bench: Bench, phase: P) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    bench.signals.put_motion(safe_to_switch=phase is P.TRIAL)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is phase)
    await bench.drive(loop, None, lambda: loop.state.phase is P.IDLE)
    assert bench.runnable() == old.content_digest
    assert loop.report() is None
    await loop.close()


async def test_going_back_fetches_no_model_again(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    await bench.install(release(bench.server, 2, files(2.0)))
    back = release(bench.server, 3, files(1.0))
    before = bench.server.served_bytes
    await bench.install(back)
    assert bench.server.served_bytes - before == back.order.size_bytes
    assert bench.runnable() == back.content_digest


async def test_files_that_no_slot_needs_are_deleted(bench: Bench) -> None:
    for counter in range(1, 5):
        await bench.install(release(bench.server, counter, files(float(counter))))
    kept = list((bench.state.blobs / "sha256").glob("*/*"))
    # Two bundles: a manifest, a model and golden vectors each; the contract is the same file.
    assert len(kept) == 7


async def test_a_model_that_does_not_qualify_never_runs(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    bench.judge.ok = False
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is P.REFUSED)
    assert (loop.state.reason, loop.state.detail) == ("not_qualified", "golden vectors differ")
    assert bench.runnable() == old.content_digest
    await loop.close()


async def test_the_wrong_bytes_are_reported_and_never_installed(bench: Bench) -> None:
    new = release(bench.server, 1, files(1.0))
    bench.server.faults.add("wrong_digest")
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "wrong_digest")
    assert bench.runnable() is None
    bench.server.faults.clear()
    bench.time_s += 100
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    await loop.close()


async def test_a_damaged_slot_is_left_for_the_other_and_then_repaired(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    await bench.install(new)
    model = bench.state.active / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(b"rot")
    loop = bench.process()
    await loop.check_slots()
    await loop.advance()
    assert bench.runnable() == old.content_digest
    await bench.drive(loop, new, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_c40_a_blob_replaced_before_it_is_staged_is_not_installed(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop._found.complete)
    tamper(bench.blobs.path(sha256_hex(files(2.0)["model.onnx"])))
    await bench.drive(loop, new, lambda: loop.state.reason == "disk_error")
    assert "damaged" in loop.state.detail
    assert bench.runnable() == old.content_digest
    await bench.drive(loop, new, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_c40_a_file_replaced_in_its_slot_before_the_switch_is_not_activated(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    bench.signals.put_motion(safe_to_switch=False)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.reason == "moving")
    candidate = loop.state.candidate
    assert candidate is not None
    tamper(bench.slots.path(candidate) / "model.onnx")
    assert not bench.slots.staged(candidate)
    with pytest.raises(DamagedError):
        bench.slots.switch(candidate)
    assert bench.runnable() == old.content_digest
    bench.signals.put_motion(safe_to_switch=True)
    await bench.drive(loop, new, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_c40_a_file_replaced_in_the_last_moment_leaves_the_old_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop, switch = bench.process(), Slots.switch
    bench.seen_running.clear()

    def after_the_journal(slots: Slots, slot: Slot | None) -> None:
        if slot is not None and slot.counter == 2:
            tamper(slots.path(slot) / "model.onnx")
            monkeypatch.undo()
        switch(slots, slot)

    monkeypatch.setattr(Slots, "switch", after_the_journal)
    await bench.drive(loop, new, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    # It was left at once for the old one, fetched again, and installed whole.
    assert bench.runnable() == new.content_digest
    assert bench.seen_running == {old.content_digest, new.content_digest}
    await loop.close()


async def test_c43_both_slots_damaged_leave_no_model_and_an_agent_that_repairs(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    new = release(bench.server, 2, files(2.0))
    await bench.install(new)
    for path in bench.state.slots.glob("*/*/model.onnx"):
        tamper(path)
    loop = bench.process()
    await loop.check_slots()
    await loop.advance()
    assert (bench.slots.linked(), loop.running(), loop.state.reason) == (None, None, "slot_damaged")
    await bench.drive(loop, new, lambda: bench.speak(loop) and loop.state.phase is P.COMMITTED)
    assert bench.runnable() == new.content_digest
    await loop.close()


async def test_c43_a_crash_loop_goes_back_and_the_release_is_not_tried_again(bench: Bench) -> None:
    old, new = release(bench.server, 1, files(1.0)), release(bench.server, 2, files(2.0))
    await bench.install(old)
    loop = bench.process()
    await bench.drive(loop, new, lambda: loop.state.phase is P.TRIAL)
    for _ in range(3):
        await loop.close()
        loop = bench.process()
        await loop.check_slots()
        await loop.advance()
    assert (loop.state.phase, loop.state.reason) == (P.REVERTED, "restarts")
    assert bench.runnable() == old.content_digest
    await loop.close()


@pytest.mark.parametrize(
    "path",
    ["../../etc/x", "/etc/passwd", "C:\\x", "a\0b", "a/b", ".hidden", "..", "", "x" * 200, "a\n", "mod\u0435l.onnx"],
)
def test_c39_a_manifest_names_plain_files_only(path: str) -> None:
    with pytest.raises(ValidationError):
        BundleFile(path=path, size_bytes=1, sha256="a" * 64, media_type="x", role=FileRole.MODEL)


def test_c39_names_that_collide_and_endless_lists_are_refused(server: FleetServer) -> None:
    twice = release(server, 1, {"model.onnx": b"1", "Model.onnx": b"2"})
    with pytest.raises(RefusedError, match="one name"):
        read_release(server.blobs[twice.order.release_digest], _target(twice), "test")
    many = release(server, 1, {f"f{number}.onnx": b"1" for number in range(64)})
    assert read_release(server.blobs[many.order.release_digest], _target(many), "test")
    data = server.blobs[many.order.release_digest].replace(b'"files":[', b'"files":[' + MILLION_FILES)
    huge = Target(sha256_hex(data), len(data), 1)
    with pytest.raises(RefusedError) as failure:
        read_release(data, huge, "test")
    assert failure.value.reason == "bad_release"


def test_a_slot_is_emptied_in_one_step_and_after_a_cut_in_that(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for name in ("1.x", ".gone.1.x", ".building"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.onnx").write_bytes(b"x")
        (folder / name).chmod(0o555)
    (folder / "stray").write_bytes(b"x")
    empty(folder)
    assert list(folder.iterdir()) == []


async def test_a_lost_journal_keeps_model_and_floor(bench: Bench) -> None:
    await bench.install(release(bench.server, 5, files(1.0)))
    for path in bench.state.private.glob("journal.db*"):
        path.unlink()
    (bench.state.private / "journal.db").write_bytes(b"not a database at all, but long enough to be one" * 100)
    loop = bench.process()
    assert loop._journal.recovered is not None
    assert (loop.state.floor, loop.running() is not None) == (5, True)
    await bench.drive(loop, release(bench.server, 4, files(2.0)), lambda: loop.state.phase is P.REFUSED)
    assert loop.state.reason == "counter_below_floor"
    await loop.close()


async def test_the_active_slot_cannot_be_staged_over(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    running = bench.slots.running()
    assert running is not None
    with pytest.raises(OSError, match="is active"):
        bench.slots.stage(running, b"{}")


async def test_what_is_installed_is_read_only(bench: Bench) -> None:
    await bench.install(release(bench.server, 1, files(1.0)))
    folder = bench.state.active.resolve()
    assert folder.stat().st_mode & 0o222 == 0
    assert all(path.stat().st_mode & 0o222 == 0 for path in folder.iterdir())
    empty(folder.parent)
    assert list(folder.parent.iterdir()) == []


def test_a_state_survives_its_journal(tmp_path: Path) -> None:
    state = State(
        phase=P.TRIAL,
        reason="awaiting_health",
        target=Target("a" * 64, 5, 2, "r"),
        active=Slot("b", "a" * 64, "b" * 64, 2),
        fallback=Slot("a", "c" * 64, "d" * 64, 1),
        floor=1,
        starts=1,
        known_bad=(("e" * 64, 9),),
        qualification={"x": 1.0},
    )
    journal = Journal(tmp_path / "journal.db")
    journal.write(state, "test")
    journal.close()
    assert Journal(tmp_path / "journal.db").read(None) == state
    assert TypeAdapter(State).validate_json(TypeAdapter(State).dump_json(state)) == state
