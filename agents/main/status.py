"""One screen about a device: what runs, what comes next and why not yet, and what has not got home."""

from typing import Any, Final

from agents.main.doctor import examine
from agents.sdk.layout import StateDir

_ERRORS: Final = ("check_in_error", "trust_error", "telemetry_error", "recordings_error")


def status(state: StateDir) -> dict[str, str]:
    """Return the lines of the screen by name, in order."""
    found = examine(state)
    if not found["enrolled"]:
        return {"device": "not enrolled", "waits for": found["waits_for"]}
    lines = {"device": found["device_id"], "agent": "runs" if found["agent_running"] else "does not run"}
    lines |= _release(found) | _now(found["now"]) | _link(found.get("link")) | _waiting(found)
    return lines


def screen(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())


def _release(found: dict[str, Any]) -> dict[str, str]:
    active, target = found["active"], found.get("target")
    lines = {"runs": f"content {active['content_digest'][:12]}" if active else "no model"}
    if target:
        lines["ordered"] = f"counter {target['counter']}, release {target['release_digest'][:12]}"
    reason = f" ({found['reason']})" if found.get("reason") else ""
    lines["phase"] = f"{found.get('phase', found.get('journal', '?'))}{reason}"
    lines["waits for"] = found.get("waits_for", "a journal that can be read")
    return lines


def _now(now: dict[str, Any]) -> dict[str, str]:
    if "error" in now:
        return {"settings": now["error"]}
    known = {name: value for name, value in now["seen"].items() if value is not None}
    lines = {"now": ", ".join(f"{name} {_short(value)}" for name, value in known.items()) or "nothing is known"}
    for who, rule in now["safe_state"].items():
        lines[f"rule of {who}"] = "; ".join(rule["missing"]) or "holds"
    return lines


def _link(link: dict[str, Any] | None) -> dict[str, str]:
    if not link:
        return {"server": "never heard of"}
    errors = [f"{name.removesuffix('_error')}: {link[name]}" for name in _ERRORS if link.get(name)]
    return {
        "server": f"heard at {str(link.get('checked_in_at'))[:19]}",
        **({"errors": "; ".join(errors)} if errors else {}),
    }


def _waiting(found: dict[str, Any]) -> dict[str, str]:
    spool = found["spool"] if isinstance(found["spool"], dict) else {}
    held = (found.get("link") or {}).get("held") or {}
    waits = f" (held: {', '.join(f'{count} {why}' for why, count in held.items())})" if held else ""
    lost = sum(spool.get(f"dropped_{what}", 0) for what in ("windows", "events", "recordings"))
    return {
        "to be sent": f"{spool.get('rows', 0)} windows and events, {found['outbox_files']} recordings{waits}",
        "lost": f"{lost} dropped, {spool.get('rejected_items', 0)} rejected, {spool.get('rebuilt', 0)} spools damaged",
    }


def _short(value: bool | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else ("yes" if value else "no")
