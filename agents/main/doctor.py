"""What state a device is in and what it waits for, read from its state directory alone; it changes nothing."""

import contextlib
import dataclasses
import fcntl
import json
import sqlite3
from pathlib import Path
from typing import Any

from agents.link import Identity
from agents.main.explain import conditions_now
from agents.main.words import waits_for
from agents.sdk.files import read_bounded
from agents.sdk.layout import StateDir
from agents.sdk.signals import Signals
from agents.update.journal import peek


def examine(state: StateDir) -> dict[str, Any]:
    """Return everything a person would ask first."""
    identity = Identity.load(state)
    if identity is None:
        return {"enrolled": False, "waits_for": "enrolment: fleetloop-agent enrol --help"}
    return {
        "enrolled": True,
        "device_id": identity.device_id,
        "server": identity.server,
        "agent_running": _is_locked(state.private / "agent.lock"),
        "link": _json(state.private / "status.json"),
        **_deployment(state),
        "now": conditions_now(state),
        "signals": _signals(Signals(state.signals)),
        "spool": _spool(state.spool),
        "outbox_files": len(list(state.outbox.glob("*.json"))),
    }


def _deployment(state: StateDir) -> dict[str, Any]:
    found = state.read_active()
    active = found and {"path": str(found[1].path), "content_digest": found[1].content_digest}
    try:
        journal, decisions = peek(state.private / "journal.db")
    except OSError as error:
        return {"active": active, "journal": str(error)}
    if journal is None:
        return {"active": active, "phase": "idle", "waits_for": "an order: nothing was ordered yet"}
    return {
        "active": active,
        "phase": journal.phase.value,
        "reason": journal.reason,
        "detail": journal.detail,
        "waits_for": waits_for(journal.phase, journal.reason, journal.detail),
        "target": dataclasses.asdict(journal.target) if journal.target else None,
        "counter_floor": journal.floor,
        "known_bad": [list(each) for each in journal.known_bad],
        "decisions": decisions,
    }


def _signals(signals: Signals) -> dict[str, Any]:
    motion, health = signals.motion(), signals.health()
    return {
        "motion": dataclasses.asdict(motion) if motion else None,
        "health": dataclasses.asdict(health) if health else None,
    }


def _spool(path: Path) -> dict[str, Any] | str | None:
    if not path.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2.0)) as db:
            counts = dict(db.execute("SELECT name, value FROM counts").fetchall())
            refused = db.execute("SELECT kind, reason FROM rejected ORDER BY seq DESC LIMIT 5").fetchall()
            return {**counts, "last_rejected": [f"{kind}: {reason}" for kind, reason in refused]}
    except sqlite3.Error as error:
        return str(error)


def _json(path: Path) -> Any:
    try:
        return json.loads(read_bounded(path, 1 << 16) or b"null")
    except ValueError:
        return None


def _is_locked(path: Path) -> bool:
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
