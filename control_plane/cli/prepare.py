"""`fleetloop prepare`: what a control plane needs before its programs start; the first job of every installation."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane.cli.answers import Answer, Raw, Report
from control_plane.cli.command import DryRun
from control_plane.cli.later import Later
from control_plane.cli.output import say
from control_plane.kit import clock
from control_plane.kit.errors import Invalid

if TYPE_CHECKING:
    from control_plane.cli import bootstrap
    from control_plane.kit import certificates, settings, signing
    from control_plane.migrations import upgrade
else:
    bootstrap = Later("control_plane.cli.bootstrap")
    certificates = Later("control_plane.kit.certificates")
    settings = Later("control_plane.kit.settings")
    signing = Later("control_plane.kit.signing")
    upgrade = Later("control_plane.migrations.upgrade")


def prepare(
    home: Annotated[Path | None, typer.Option(help="folder of the installation; FLEETLOOP_HOME if unset")] = None,
    proxy_certificates: Annotated[
        Path | None,
        typer.Option(help="folder for the certificate and key of a proxy before devices, made anew; none if unset"),
    ] = None,
    dry_run: DryRun = False,
) -> Answer:
    """Bring the database to the newest schema, and make the keys and tokens that are missing. Safe to run again.

    The proxy's certificate is for the names in FLEETLOOP_DEVICE_NAMES.

    For example: fleetloop prepare --proxy-certificates /etc/fleetloop
    """
    found = settings.Settings(home=home) if home else settings.Settings()
    if found.direct_url is None:
        raise Invalid("say which database: FLEETLOOP_DATABASE_URL, or a file of FLEETLOOP_SECRETS_DIR")
    raw = Raw({"home": str(found.home)})
    if dry_run:
        return Report([raw], lambda: say(f"would prepare the database and {found.home}"))
    found.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    upgrade.upgrade(found.direct_url)
    bootstrap.make_tokens(found.direct_url, found.home / "tokens")
    bootstrap.make_keys(found.home)
    authority = certificates.load_authority(
        found.device_ca or found.keys / "device-ca.pem", found.trust_domain, clock.now()
    )
    if proxy_certificates is not None:
        _write_certificates(proxy_certificates, authority, found.device_names)
    signing.load_secret(found.keys, "object-urls.secret")
    return Report([raw], lambda: say(f"the database and {found.home} are ready; take {found.keys / 'offline'} away"))


def _write_certificates(folder: Path, authority: "certificates.Authority", names: str) -> None:
    """Write what `infra/nginx/devices.conf` and `infra/envoy/devices.yaml` name; the key is for its owner alone."""
    key, chain = authority.issue_server([name.strip() for name in names.split(",") if name.strip()], clock.now())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.crt").write_bytes(chain)
    (folder / "device-ca.crt").write_text(authority.pem)
    with os.fdopen(os.open(folder / "server.key", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(key)
