"""The drill: the database and every object are deleted while robots drive, then restored from a backup.

Devices are the real agents: each checks the restored repository with python-tuf against what it saw before, which was
newer. A release is rolled out afterwards, so that nothing of the trust or of the devices' state may be in the way.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from control_plane.cli.story import Story
from control_plane.registry.schemas import ReleaseCreate, RevocationCreate
from control_plane.rollout.domain import Phase
from control_plane.rollout.schemas import PlanBody, RolloutCreate, StageBody
from tests.clusters.processes import until
from tests.support.whole.stack import Whole

WHY = "a drill: a release after the restore"
BACK_S = 180.0


@dataclass(frozen=True, slots=True)
class Drilled:
    """`silent_s` is from the loss to the first check-in of the last device; `revisions` of TUF: saved, lost, after."""

    objects: int
    deleted: int
    restore_s: float
    silent_s: float
    devices: int
    revisions: tuple[int, int, int]
    rollout: str


def drill(whole: Whole, story: Story, folder: Path) -> Drilled:
    """Lose everything and restore it; the robots have to drive. Raises whatever does not come back."""
    viewer = story.clients["viewer"]
    saved = viewer.get_trust().revision
    _fleetloop(whole, "backup", "create", str(folder))
    # What no backup has, but devices see: they must not be led back before it.
    nothing = hashlib.sha256(b"a drill").hexdigest()
    revocation = RevocationCreate(content_digests=[nothing], reason=WHY)
    lost = story.clients["admin"].revoke(revocation).revision
    until(lambda: _seen(story.host.root) >= lost, BACK_S, "devices have seen what will be lost")
    begun, at = time.monotonic(), datetime.now(UTC)
    whole.stop_ours()
    whole.database.drop()
    deleted = whole.empty_bucket()
    restoring = time.monotonic()
    _fleetloop(whole, "backup", "restore", str(folder))
    restore_s = time.monotonic() - restoring
    whole.start_ours()
    whole.wait_ready()
    _fleetloop(whole, "keys", "resume-after-restore", "--yes")
    story.clients["admin"].revoke(revocation)  # as the runbook says: what was revoked since the backup, once more
    total = len(list(viewer.list_devices()))
    until(lambda: _heard(story, at) == total, BACK_S, "all devices have checked in")
    silent_s = time.monotonic() - begun
    rollout = _roll_out_again(story, "v2")  # v1 is worse: the field halts it
    return Drilled(
        objects=_objects(folder),
        deleted=deleted,
        restore_s=round(restore_s, 1),
        silent_s=round(silent_s, 1),
        devices=total,
        revisions=(saved, lost, viewer.get_trust().revision),
        rollout=rollout,
    )


def _seen(devices: Path) -> int:
    """Return the oldest TUF timestamp that any device holds."""
    files = list(devices.glob("*/agent/trust/tuf/timestamp.json"))
    return min(int(json.loads(file.read_text())["signed"]["version"]) for file in files)


def _heard(story: Story, since: datetime) -> int:
    devices = story.clients["viewer"].list_devices()
    return sum(each.last_seen_at is not None and each.last_seen_at > since for each in devices)


def _roll_out_again(story: Story, version: str) -> str:
    """Release a version once more, to every device; return how the rollout ended."""
    content = story.versions[version].content_digest
    asked = ReleaseCreate(content_digest=content, device_classes=[story.spec["device_class"]], reason=WHY)
    release = story.clients["pipeline"].create_release(asked, key="drill")
    at_once = StageBody(fraction=1.0, must_prove=False)
    plan = PlanBody.model_validate(story.spec["rollout"]).model_copy(update={"stages": [at_once]})
    rollout = RolloutCreate(release=release.digest, plan=plan, override_reason=WHY, plan_override=WHY)
    made = story.clients["operator"].create_rollout(rollout, key="drill")
    story.follow_rollout("drill", made.id, Phase.DONE)
    return str(story.rollouts["drill"].phase)


def _objects(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "objects").rglob("*"))


def _fleetloop(whole: Whole, *arguments: str) -> None:
    environment = os.environ | whole.environment() | {"FLEETLOOP_TOKEN": whole.tokens["admin"]}
    command = [sys.executable, "-m", "control_plane.cli.app", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
