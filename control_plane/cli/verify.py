"""`fleetloop verify`: the whole chain of the model that a device runs, from its state directory alone, offline."""

import hashlib
import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agents.sdk import StateDir
from control_plane.cli.answers import Answer, Raw, Report
from control_plane.cli.output import complain, console, literal
from control_plane.registry.domain import Chain, ChainError, Files, verify_chain

MAX_FILE_BYTES = 8 << 20
_ROOT = re.compile(r"^(\d{1,9})\.root\.json$")


def verify(
    model: Annotated[Path, typer.Argument(help="a device's state directory")],
    root: Annotated[Path | None, typer.Option(help="the root you trust, if not the device's own")] = None,
    device_class: Annotated[str | None, typer.Option(help="judge it for this class")] = None,
) -> Answer:
    """Check root, metadata, policy, attestations and model files of what a device runs, offline.

    For example: fleetloop verify /var/lib/fleetloop --root 1.root.json
    """
    try:
        chain = verify_chain(read_files(model, root), device_class or class_of(model), datetime.now(UTC))
    except (ChainError, OSError, ValueError) as error:
        complain("chain_broken", f"the chain does not hold: {error}", 0)
        raise typer.Exit(1) from error
    return Report([_said(chain)], lambda: _tell(chain))


def read_files(folder: Path, root: Path | None = None) -> Files:
    """Read what a device keeps.

    Raises:
        OSError: something is not there. ChainError: no model is active.
    """
    state = StateDir(folder)
    active = state.read_active()
    if active is None:
        raise ChainError(f"{folder} runs no model, or is no device's state directory")
    trust, slot = state.private / "trust", active[1].path
    cache = trust / "tuf"
    return Files(
        roots=_roots(root or trust / "root.json", cache / "root_history"),
        metadata={path.stem: _read(path) for path in sorted(cache.glob("*.json")) if path.stem != "root"},
        policy=_read(trust / "policy.json"),
        release=_read(slot / ".release.json"),
        attestations=_read(slot / ".attestations.jsonl"),
        model={path.name: _sha256(path) for path in slot.iterdir() if not path.name.startswith(".")},
    )


def class_of(folder: Path) -> str | None:
    found = json.loads(_read(StateDir(folder).device_json)).get("device_class")
    return str(found) if found else None


def _roots(first: Path, history: Path) -> list[bytes]:
    trusted = _read(first)
    version = json.loads(trusted)["signed"]["version"]
    later = {int(found[1]): path for path in history.glob("*.json") if (found := _ROOT.match(path.name))}
    return [trusted, *(_read(later[number]) for number in sorted(later) if number > version)]


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ChainError(f"{path} is larger than anything that belongs there")
    return path.read_bytes()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said(chain: Chain) -> Raw:
    said = {"links": chain.links, "expired": chain.expired, "admission": asdict(chain.admission)}
    return Raw({"ok": True, "release": chain.release.model_dump(mode="json", by_alias=True)} | said)


def _tell(chain: Chain) -> None:
    for link in chain.links:
        console.print(f"[green]✓[/green] {literal(link)}", highlight=False)
    for each in chain.expired:
        console.print(f"[yellow]![/yellow] {literal(each)}: nothing new may be installed by it", highlight=False)
    who = chain.admission
    console.print(
        f"[bold]every link holds[/bold]: trained by {literal(who.trainer)}, {who.result.value} by {literal(who.gate)}, "
        f"approved by {literal(', '.join(who.approvers))}",
        highlight=False,
    )
