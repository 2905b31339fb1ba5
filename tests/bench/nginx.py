"""A static file server that is not ours: nginx on one folder, so that no Python is on the sending side."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from control_plane.cli.processes import free_port
from tests.bench.stage import listens, wait_until

PROGRAM: Final = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
_CONF: Final = """
daemon off; pid {home}/nginx.pid; error_log {home}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log {home}/access.log; sendfile on; tcp_nopush on; default_type application/octet-stream;
    client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
    server {{ listen 127.0.0.1:{port} sndbuf=256k; location / {{ root {files}; }} }}
}}
"""


@contextmanager
def static_files(files: Path, home: Path) -> Iterator[str]:
    """Serve a folder; give the address."""
    if PROGRAM is None:
        raise RuntimeError("nginx is not installed")
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)  # its worker is another user where we are root
    port = free_port()
    (home / "nginx.conf").write_text(_CONF.format(home=home, files=files, port=port))
    with subprocess.Popen([PROGRAM, "-p", home, "-c", home / "nginx.conf"]) as process:
        try:
            wait_until(lambda: listens(port), "nginx", 10)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
