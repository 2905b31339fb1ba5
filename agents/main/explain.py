"""Why the device is where it is and what would move it on, in sentences, from its state directory alone."""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError

from agents.link import Identity
from agents.link.identity import root_path
from agents.main.configuration import Configuration
from agents.main.safety import Present
from agents.main.words import PHASES, REASONS
from agents.platform import PlatformFacts
from agents.protocol.v1.safe_state import MAX_JOINED_CHARS, SafeStateError, parse
from agents.sdk.layout import StateDir
from agents.sdk.signals import Signals
from agents.update import Anchor, State
from agents.update.journal import peek


def present_of(state: StateDir, configuration: Configuration, anchor: Anchor) -> Present:
    """Return how things are now, as the agent of this state directory sees them."""
    conditions = PlatformFacts(state.root).conditions
    metered = configuration.network_metered
    return Present(conditions, Signals(state.signals).motion, lambda: anchor.time_floor, metered=metered)


def rules_of(configuration: Configuration, journal: State | None) -> dict[str, str]:
    """Return who asks for what before a switch."""
    ordered = journal.target.safe_state if journal is not None and journal.target is not None else None
    asked = {"this device (agent.json)": configuration.safe_state, "the order": ordered or ""}
    return {who: text for who, text in asked.items() if text}


def lacks(text: str, present: Present) -> list[str]:
    """Return what a rule is missing now; nothing if it holds."""
    try:
        return [one.words for one in parse(text, MAX_JOINED_CHARS).ask(present()).waits]
    except SafeStateError as error:
        return [f"it cannot be read here: {error}"]


def explain(state: StateDir) -> list[str]:
    identity = Identity.load(state)
    if identity is None:
        return ["This device is not enrolled: it has no key that the server knows.", "Next: fleetloop-agent enrol"]
    journal, decisions = peek(state.private / "journal.db")
    anchor, configuration = Anchor(root_path(state).parent), Configuration.load(state)
    return [
        f"{identity.device_id} is of class {identity.device_class} at {identity.site}.",
        _running(state, journal),
        *_deployment(journal),
        *_safety(configuration, journal, present_of(state, configuration, anchor)),
        *_trust(anchor),
        *_history(decisions),
    ]


def _running(state: StateDir, journal: State | None) -> str:
    found = state.read_active()
    if found is None:
        return "It has no model yet."
    slot, model = found
    back = journal.fallback if journal is not None else None
    behind = f"; counter {back.counter} in slot {back.name} stands by" if back else "; nothing stands by"
    return f"It runs counter {model.release_counter} from slot {slot}, content {model.content_digest[:12]}{behind}."


def _deployment(journal: State | None) -> Iterator[str]:
    if journal is None:
        yield "It has not decided anything yet. What moves it on: an order, which a check-in brings."
        return
    if journal.target is not None:
        rollout = f" in rollout {journal.target.rollout_id}" if journal.target.rollout_id else ""
        yield f"The last order is counter {journal.target.counter}, {journal.target.release_digest[:12]}{rollout}."
    sentence, moves = PHASES[journal.phase]
    yield sentence
    if journal.reason is not None:
        why, moves = REASONS.get(journal.reason, (journal.reason.replace("_", " "), moves))
        yield f"Why: {why} ({journal.reason}){': ' + journal.detail if journal.detail else ''}."
    yield f"What moves it on: {moves}."
    for content, counter in journal.known_bad[-5:]:
        yield f"It will not take content {content[:12]} under counter {counter} again: it failed here."


def _safety(configuration: Configuration, journal: State | None, present: Present) -> Iterator[str]:
    rules = rules_of(configuration, journal)
    for who, text in rules.items():
        missing = lacks(text, present)
        yield f"Before a switch {who} asks for: {text}"
        yield f"  now missing: {'; '.join(missing)}" if missing else "  that holds now."
    if not rules:
        yield "Before a switch only the application is asked (robot.set_motion)."


def _trust(anchor: Anchor) -> Iterator[str]:
    policy = anchor.policy
    if policy is None:
        yield "It has no trust policy: it installs nothing until it has read one."
    else:
        lost = f"{len(anchor.revocations.digests)} digests are revoked"
        yield f"It follows trust policy {policy.version} of repository revision {anchor.revision}; {lost}."
    now = datetime.now(timezone.utc)
    if now < anchor.time_floor:
        yield f"Its clock says {now.isoformat()}; the fleet has signed {anchor.time_floor.isoformat()}: it is behind."


def _history(decisions: list[dict[str, Any]]) -> Iterator[str]:
    if decisions:
        yield "Last decisions, newest first:"
    for each in decisions[:8]:
        code = f" {each['reason']}" if each["reason"] else ""
        yield f"  {str(each['at'])[:19]}  {each['phase']}{code}: {each['because']}"


def conditions_now(state: StateDir) -> dict[str, Any]:
    """Return what the device reads of itself and which rules for switching do not hold, for doctor and status."""
    try:
        configuration, anchor = Configuration.load(state), Anchor(root_path(state).parent)
    except (ValueError, ValidationError) as error:
        return {"error": str(error)[:300]}
    journal, _ = peek(state.private / "journal.db")
    present = present_of(state, configuration, anchor)
    seen = {name: value for name, value in vars(present()).items() if name != "now"}
    rules = {
        who: {"rule": text, "missing": lacks(text, present)} for who, text in rules_of(configuration, journal).items()
    }
    return {"seen": seen, "safe_state": rules}
