"""`fleetloop keys`: make keys, look at them, rotate them, and hold ceremonies with the offline ones."""

import json
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from agents.protocol.v1.trust import POLICY_BYTES
from control_plane.cli.answers import Answer, Change, Raw, Report
from control_plane.cli.command import DryRun, Verb
from control_plane.cli.connection import client
from control_plane.cli.home import default_home
from control_plane.cli.key_trial import TryOnly, tried
from control_plane.cli.later import Later
from control_plane.cli.output import View, console, for_people, literal, say, show_one
from control_plane.client import post
from control_plane.kit import clock
from control_plane.kit.errors import Invalid
from control_plane.kit.signing import KeyEntry, Keyring, read_public
from control_plane.registry.schemas import OfflineCreate, Revision

if TYPE_CHECKING:
    from control_plane.registry.service import ceremony as ceremonies
    from control_plane.registry.service import keymaking, offline, proposal
else:
    ceremonies = Later("control_plane.registry.service.ceremony")
    keymaking = Later("control_plane.registry.service.keymaking")
    offline = Later("control_plane.registry.service.offline")
    proposal = Later("control_plane.registry.service.proposal")

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Keys of the installation: make, show, rotate; ceremonies with offline keys.",
)
ceremony = typer.Typer(no_args_is_help=True, help="Sign with offline keys that lie on other machines.")
keys.add_typer(ceremony, name="ceremony")

Home = Annotated[Path | None, typer.Option(help="folder of the installation; FLEETLOOP_HOME if unset")]
Unsigned = Annotated[bool, typer.Option("--no-sign", help="only propose; offline keys lie elsewhere")]


def _folder(home: Path | None) -> Path:
    return (home or default_home()) / "keys"


@keys.command("init")
def init(
    home: Home = None,
    root_keys: Annotated[int, typer.Option(min=1, max=16, help="how many root keys")] = 3,
    root_threshold: Annotated[int, typer.Option(min=1, max=16, help="how many of them must sign")] = 2,
    targets_keys: Annotated[int, typer.Option(min=1, max=16, help="how many keys sign the trust policy")] = 2,
    targets_threshold: Annotated[int, typer.Option(min=1, max=16, help="how many of them must sign")] = 2,
    approver: Annotated[
        list[str] | None, typer.Option(help="NAME=PUBLICKEY of a person who may approve; repeat for each")
    ] = None,
    approval_threshold: Annotated[
        int | None, typer.Option(min=1, max=16, help="how many people must approve; two, or one if there is one")
    ] = None,
    director_days: Annotated[
        float, typer.Option(min=1, max=366, help="days until the director key must be rotated")
    ] = 30,
    dry_run: TryOnly = False,
) -> None:
    """Make the keys, the first root and the trust policy of a new installation. Nothing is overwritten.

    Examples:
      fleetloop keys init
      fleetloop keys init --home /srv/fleetloop --approver ada=5f3c...e1 --approver bo=77aa...09 --approval-threshold 2
    """
    plan = keymaking.KeyPlan(
        root_keys=root_keys,
        root_threshold=root_threshold,
        targets_keys=targets_keys,
        targets_threshold=min(targets_threshold, targets_keys),
        approvers=dict(_approver(text) for text in approver or ()),
        approval_threshold=approval_threshold,
        director_days=director_days,
    )
    folder = _folder(home)
    with tried(folder, dry_run=dry_run) as at:
        keymaking.init_keys(at, clock.now(), plan)
    if dry_run:
        return
    console.print(f"keys and first root are in {folder}")
    console.print(
        f"[bold]Now move {folder / 'offline'} to machines or media that are never online[/bold], one key to each; "
        "the server needs none of them."
    )
    if not plan.approvers:
        console.print(f"The only approver is 'operator', whose key is in {folder / 'approvers'}.")


def _approver(text: str) -> tuple[str, str]:
    name, found, public = text.partition("=")
    if not found or not name:
        raise Invalid(f"{text!r} is not NAME=PUBLICKEY", code="approver_refused")
    return name, public


@Verb(keys)("show")
def show(home: Home = None) -> Answer:
    """Show which key does what, where it lives, and until when what it signed holds.

    Example: fleetloop keys show --json
    """
    folder = _folder(home)
    seen = _state(folder)
    return Report([Raw(seen)], lambda: _tell(seen))


def _tell(seen: dict[str, Any]) -> None:
    table = Table(header_style="bold")
    for column in ("role", "key", "lives at", "in use", "here"):
        table.add_column(column)
    for each in seen["keys"]:
        table.add_row(
            literal(each["role"]),
            literal(each["keyid"][:12]),
            literal(each["uri"]),
            _yes(each["in_use"]),
            _yes(each["here"]),
        )
    console.print(table)
    for role, each in seen["signed"].items():
        console.print(f"{role}: version {each['version']}, {each['threshold']} must sign, until {each['expires_at']}")
    if seen["pending"]:
        console.print(f"[yellow]a ceremony waits for signatures: {seen['pending']}[/yellow]")


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "elsewhere"}[value]


def _state(folder: Path) -> dict[str, Any]:
    base, keyring = ceremonies.base_of(folder), Keyring(folder)
    root, targets = base.root.signed, base.targets.signed
    used = {*root.keys, *(targets.delegations.keys if targets.delegations else ()), *base.policy.keys}
    listed = []
    for role in keyring.roles:
        for entry in keyring.entries(role):
            path = keyring.path_of(entry)
            here = None if path is None else path.exists()
            listed.append({"role": role, **entry.as_json(), "in_use": entry.keyid in used, "here": here})
    signed = {
        role: {"version": each.version, "expires_at": each.expires.isoformat(), "threshold": root.roles[role].threshold}
        for role, each in (("root", root), ("targets", targets))
    }
    pending = folder / ceremonies.PENDING
    missing = {}
    if pending.exists():
        found = ceremonies.read_ceremony(pending)
        missing = {role: found.missing(role) for role in found.made}
    return {"keys": listed, "signed": signed, "policy_version": base.policy.version, "pending": missing}


@keys.command("rotate")
def rotate(
    role: Annotated[str, typer.Argument(help="a role, as 'keys show' lists them")],
    home: Home = None,
    drop: Annotated[str | None, typer.Option(help="start of the id of the key that goes, if there are several")] = None,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="director, gate, trainer: what the old key signed goes on counting")
    ] = False,
    uri: Annotated[str | None, typer.Option(help="a key that exists: awskms:..., hsm:..., file2:...")] = None,
    public: Annotated[Path | None, typer.Option(help="its public key: PEM, or 64 hex digits")] = None,
    no_sign: Unsigned = False,
    dry_run: TryOnly = False,
) -> None:
    """Put a new key in a role. With the offline keys here it is done at once, and a server with this home takes it in.

    Examples:
      fleetloop keys rotate director
      fleetloop keys rotate root --drop 3f9a
      fleetloop keys rotate releases --uri awskms:alias/fleetloop-releases --public releases.pub
    """
    folder = _folder(home)
    if (uri is None) != (public is None):
        raise Invalid("--uri and --public go together", code="key_refused")
    with tried(folder, dry_run=dry_run) as at:
        proposal.check_rotation(at, role)
        entry = proposal.new_key(at, role) if uri is None or public is None else _foreign(uri, public)
        proposal.propose_rotation(at, role, entry, clock.now(), drop=drop, keep_old=keep_old)
        _carry_on(at, no_sign=no_sign)


def _foreign(uri: str, public: Path) -> KeyEntry:
    if not public.is_file() or public.stat().st_size > 16 << 10:
        raise Invalid(f"{public} is no file of a public key", code="key_refused")
    return KeyEntry(uri, read_public(public.read_text()))


@keys.command("renew")
def renew(
    roles: Annotated[list[str], typer.Argument(help="root, targets, or both")],
    home: Home = None,
    no_sign: Unsigned = False,
    dry_run: TryOnly = False,
) -> None:
    """Sign root or targets again with a new expiry. The worker renews all other roles by itself.

    Example: fleetloop keys renew targets
    """
    with tried(_folder(home), dry_run=dry_run) as at:
        proposal.propose_renewal(at, roles, clock.now())
        _carry_on(at, no_sign=no_sign)


@keys.command("policy")
def policy(
    file: Annotated[
        Path | None, typer.Argument(help="the new trust policy; without it the present one is printed")
    ] = None,
    home: Home = None,
    no_sign: Unsigned = False,
    dry_run: TryOnly = False,
) -> None:
    """Print the trust policy, or sign another one: approvers, thresholds, allowed suites.

    Examples:
      fleetloop keys policy > policy.json     # edit it, raise its version
      fleetloop keys policy policy.json
    """
    folder = _folder(home)
    if file is None:
        typer.echo(json.dumps(json.loads(ceremonies.base_of(folder).policy_data), indent=1))
        return
    if not file.is_file() or file.stat().st_size > POLICY_BYTES:
        raise Invalid(f"{file} is no file of at most {POLICY_BYTES} bytes", code="policy_refused")
    with tried(folder, dry_run=dry_run) as at:
        proposal.propose_policy(at, file.read_bytes(), clock.now())
        _carry_on(at, no_sign=no_sign)


def _carry_on(folder: Path, *, no_sign: bool = False) -> None:
    """Sign with what is here, finish if that suffices, and say what comes next."""
    if not no_sign:
        ceremonies.sign_here(folder)
    if _finish(folder):
        return
    found = ceremonies.read_ceremony(folder / ceremonies.PENDING)
    for role in found.made:
        console.print(f"{role}: {found.missing(role)} signatures are missing")
    console.print("next: fleetloop keys ceremony export DIR, and sign it where the offline keys are")


def _finish(folder: Path) -> bool:
    if not ceremonies.finish(folder, clock.now()):
        return False
    console.print(
        f"signed and put into {folder / offline.SIGNED}; a server with this home publishes it within seconds, "
        "for another one run: fleetloop keys publish"
    )
    return True


@Verb(keys)("publish", changes=True)
def publish(home: Home = None) -> Answer:
    """Send what is signed to the control plane of FLEETLOOP_SERVER, as admin.

    Example: FLEETLOOP_SERVER=https://fleet.example FLEETLOOP_TOKEN=... fleetloop keys publish
    """
    folder = _folder(home)
    body = _unpublished(folder, ceremonies.base_of(folder))
    if body is None:
        return Report([], lambda: say("the control plane has all of this"))
    return Change("admin", [post(Revision, "/trust/offline", body)], status=lambda made: _signed(made, "published"))


def _unpublished(folder: Path, base: "ceremonies.Base") -> OfflineCreate | None:
    """Return what the control plane does not have yet, if there is anything."""
    held = {each.role: each.version for each in client("admin").get_trust().roles}
    signed = folder / offline.SIGNED
    roots = [path.read_bytes() for number, path in offline.versions_in(signed, "root") if number > held.get("root", 0)]
    fresh = base.targets.signed.version > held.get("targets", 0)
    if not roots and not fresh:
        return None
    targets = offline.versions_in(signed, "targets")[-1][1].read_bytes()
    return OfflineCreate(
        roots=[b64encode(each) for each in roots],
        targets=b64encode(targets) if fresh else None,
        policy=b64encode(base.policy_data) if fresh else None,
    )


def _signed(made: Revision, what: str) -> int:
    if not for_people():
        show_one(made, View("revision", ()))
    say(f"{what}; the timestamp is at version {made.revision}")
    return 0


@Verb(keys)("resume-after-restore", changes=True)
def resume(yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False, dry_run: DryRun = False) -> Answer:
    """After a backup of the database was restored: sign again, above everything that was published before.

    Revocations and releases published after the backup are lost; look for them first, and publish them again.

    Example: fleetloop keys resume-after-restore
    """
    if not yes and not dry_run:
        typer.confirm("Revocations published after the backup are lost. Have you listed them, and go on?", abort=True)
    return Change("admin", [post(Revision, "/trust/resume")], status=lambda made: _signed(made, "signing goes on"))


@ceremony.command("export")
def export(
    to: Annotated[Path, typer.Argument(help="an empty or new folder, e.g. on a USB stick")], home: Home = None
) -> None:
    """Copy what waits for signatures to a folder; it holds no secret.

    Example: fleetloop keys ceremony export /media/stick/ceremony
    """
    ceremonies.export(_folder(home), to)
    console.print(f"{to}: on each machine with an offline key run: fleetloop keys ceremony sign {to} --key KEY.pem")


@ceremony.command("sign")
def sign(
    folder: Annotated[Path, typer.Argument(help="the exported folder")],
    key: Annotated[Path, typer.Option(help="file of one offline key")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Sign an exported folder with one key; needs no installation, server or network.

    Example: fleetloop keys ceremony sign /media/stick/ceremony --key root-2.pem
    """
    for line in ceremonies.describe(folder):
        console.print(line, highlight=False)
    if not yes:
        typer.confirm("Sign this?", abort=True)
    added = ceremonies.sign_with_file(folder, key)
    console.print(", ".join(f"{role}: {number} signature{'s' * (number != 1)} added" for role, number in added.items()))


@ceremony.command("import")
def take(
    exported: Annotated[Path, typer.Argument(help="the folder that was signed")],
    home: Home = None,
    dry_run: TryOnly = False,
) -> None:
    """Take signatures over, and finish once there are enough.

    Example: fleetloop keys ceremony import /media/stick/ceremony
    """
    with tried(_folder(home), dry_run=dry_run) as at:
        added = ceremonies.take_signatures(at, exported)
        console.print(", ".join(f"{role}: {number} new" for role, number in added.items()))
        _carry_on(at, no_sign=True)
