"""Our nginx configurations (infra/nginx), run with this installation's paths and ports."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from control_plane.kit.certificates import load_authority

SHIPPED = Path(__file__).parents[3] / "infra" / "nginx"
MAIN = """{user}daemon off; pid {d}/nginx.pid; error_log {d}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
    uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi;
    include {d}/devices.conf;
    include {d}/people.conf;
    include {d}/objects.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Behind:
    """The ports that are served, and what is behind each."""

    devices: int
    device_sockets: Sequence[Path]
    people: int
    people_ports: Sequence[int]
    objects: int
    objects_port: int


def configure(folder: Path, device_ca: Path, behind: Behind) -> Path:
    """Write a configuration and return the main file; FOLDER/device-ca.crt is the authority of its certificate."""
    folder.mkdir(exist_ok=True)
    authority = load_authority(device_ca, "fleetloop", datetime.now(UTC))
    key, chain = authority.issue_server(["localhost", "127.0.0.1"], datetime.now(UTC))
    (folder / "server.key").touch(0o600)
    (folder / "server.key").write_bytes(key)
    (folder / "server.crt").write_bytes(chain)
    (folder / "device-ca.crt").write_text(authority.pem)
    sockets = "\n    ".join(f"server unix:{path} max_fails=0;" for path in behind.device_sockets)
    ports = "\n    ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in behind.people_ports)
    _write(
        folder / "devices.conf",
        {
            r"server unix:\S+;": sockets,
            r"listen 8443 ssl;": f"listen 127.0.0.1:{behind.devices} ssl;",
            r"/etc/fleetloop/": f"{folder}/",
            r"rate=1r/s": "rate=100r/s",  # all robots of this fleet have one address
        },
    )
    _write(
        folder / "people.conf",
        {
            r"server 127\.0\.0\.1:8080;\n    server 127\.0\.0\.1:8081;": ports,
            r"listen 443 ssl;": f"listen 127.0.0.1:{behind.people};",
            r"    ssl_\S+ [^;]+;\n": "",  # people come by loopback here
        },
    )
    _write(
        folder / "objects.conf",
        {
            r"server 127\.0\.0\.1:7480;": f"server 127.0.0.1:{behind.objects_port};",
            r"listen 9443 ssl;": f"listen 127.0.0.1:{behind.objects} ssl;",
            r"/etc/fleetloop/objects": f"{folder}/server",
        },
    )
    user = "user root; " if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(d=folder, user=user))
    return folder / "nginx.conf"


def _write(path: Path, changes: Mapping[str, str]) -> None:
    text = (SHIPPED / path.name).read_text()
    for pattern, new in changes.items():
        text, changed = re.subn(pattern, new, text)
        assert changed, f"{path.name} has no {pattern}"
    path.write_text(text)
