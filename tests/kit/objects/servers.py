"""A real S3 server for the conformance suite, or the nearest thing this machine has."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

CEPH = ("ceph", "ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")
ACCESS, SECRET = "conformance", "conformance-secret-key"
DOMAIN, KMS_KEY = "s3.fleetloop.test", "conformance-key"
RGW_OPTIONS = {
    "rgw_dns_name": DOMAIN,
    "rgw_crypt_require_ssl": "false",
    "rgw_crypt_s3_kms_backend": "testing",
    "rgw_crypt_s3_kms_encryption_keys": f"{KMS_KEY}=YSBrZXkgZm9yIHRlc3RzLCAzMiBieXRlcyBvZiBpdC4=",
}


@dataclass(frozen=True)
class Server:
    name: str
    endpoint: str
    access_key: str
    secret_key: str
    checks_signatures: bool
    configured: bool = True
    """Whether it knows DOMAIN and KMS_KEY (RGW_OPTIONS for Ceph)."""

    @property
    def by_name(self) -> str:
        """The endpoint by a name below which every bucket has one; tests answer for both (`answered`)."""
        return f"http://{DOMAIN}:{self.endpoint.rpartition(':')[2]}"


@contextmanager
def s3_server(folder: Path) -> Iterator[Server]:
    given = os.environ.get("FLEETLOOP_TEST_S3_ENDPOINT")
    if given:
        keys = os.environ.get("AWS_ACCESS_KEY_ID", ACCESS), os.environ.get("AWS_SECRET_ACCESS_KEY", SECRET)
        configured = bool(os.environ.get("FLEETLOOP_TEST_S3_CONFIGURED"))
        yield Server("given", given, *keys, checks_signatures=True, configured=configured)
    elif all(shutil.which(program) for program in CEPH):
        with ceph(folder) as server:
            yield server
    else:
        with moto() as server:
            yield server


@contextmanager
def moto() -> Iterator[Server]:
    port = free_port()
    program = Path(sys.executable).with_name("moto_server")
    with ExitStack() as running:
        running.enter_context(child([str(program), "-H", "127.0.0.1", "-p", str(port)], subprocess.DEVNULL))
        wait_http(port, 60)
        yield Server("moto", f"http://127.0.0.1:{port}", ACCESS, SECRET, checks_signatures=False)


@contextmanager
def ceph(folder: Path) -> Iterator[Server]:
    """One monitor, one OSD in memory, one gateway, all on loopback; about 3 s on an idle machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running, (folder / "out").open("wb") as log:
        yield make_ceph(folder, lambda _, command: running.enter_context(child(command, log)), IN_MEMORY)


def make_ceph(folder: Path, start: Callable[[str, list[str]], object], store: str) -> Server:
    """Make the store of IN_MEMORY or ON_DISK (which bears SIGKILL); `start` gets a name and a command, and returns."""
    port, monitor, fsid = free_port(), free_port(), str(uuid.uuid4())
    for name in ("mon", "osd", "run", "log", "rgw"):
        (folder / name).mkdir(parents=True)
    conf = folder / "ceph.conf"
    options = "\n".join(f"{name}={value}" for name, value in RGW_OPTIONS.items())
    conf.write_text(CONF.format(d=folder, fsid=fsid, port=port, monitor=monitor, store=store, options=options))
    address, common = f"[v2:127.0.0.1:{monitor}/0]", ["-c", str(conf)]
    tool("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, str(folder / "monmap"))
    tool("ceph-mon", *common, "-i", "a", "--mkfs", "--monmap", str(folder / "monmap"))
    start("ceph-mon", ["ceph-mon", *common, "-i", "a", "--foreground"])
    osd = str(uuid.uuid4())
    tool("ceph", *common, "osd", "new", osd)
    tool("ceph-osd", *common, "-i", "0", "--mkfs", "--osd-uuid", osd)
    tool("ceph", *common, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
    start("ceph-osd", ["ceph-osd", *common, "-i", "0", "--foreground"])
    start("radosgw", ["radosgw", *common, "-n", "client.rgw", "--foreground"])
    user = ["user", "create", "--uid=t", "--display-name=t", f"--access-key={ACCESS}", f"--secret-key={SECRET}"]
    tool("radosgw-admin", *common, "-n", "client.rgw", *user)
    wait_http(port, 60)
    return Server("radosgw", f"http://127.0.0.1:{port}", ACCESS, SECRET, checks_signatures=True)


@contextmanager
def answered() -> Iterator[None]:
    """Answer for the names of buckets in this process, as a company's name server does."""
    asked = socket.getaddrinfo

    def ours(host: str | bytes | None, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return asked("127.0.0.1" if name and name.endswith(DOMAIN) else host, *rest, **more)

    with patch.object(socket, "getaddrinfo", ours):
        yield


def tool(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"


@contextmanager
def child(command: list[str], log: object) -> Iterator[None]:
    """Run a program that ends with this block, and with this process should it die first."""
    bound = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    process = subprocess.Popen([*bound, *command], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_http(port: int, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answers on port {port}")


IN_MEMORY = "osd_objectstore=memstore\nmemstore_device_bytes=1073741824"
ON_DISK = """osd_objectstore=bluestore
bluestore_block_size=8589934592
bluestore_cache_autotune=false
bluestore_cache_size=67108864"""

CONF = """[global]
fsid={fsid}
auth_cluster_required=none
auth_service_required=none
auth_client_required=none
mon_host=[v2:127.0.0.1:{monitor}/0]
mon_initial_members=a
ms_bind_ipv6=false
public_network=127.0.0.0/8
cluster_network=127.0.0.0/8
osd_pool_default_size=1
osd_pool_default_min_size=1
osd_pool_default_pg_num=1
osd_pool_default_pgp_num=1
osd_pool_default_pg_autoscale_mode=off
mon_allow_pool_size_one=true
mon_max_pg_per_osd=1000
osd_crush_chooseleaf_type=0
{store}
run_dir={d}/run
admin_socket={d}/run/$name.asok
log_file={d}/log/$name.log
mon_data={d}/mon
osd_data={d}/osd
osd_class_load_list=*
osd_class_default_list=*
mon_osd_full_ratio=0.98
mon_data_avail_crit=1
ms_mon_client_mode=crc
ms_client_mode=crc
ms_cluster_mode=crc
ms_service_mode=crc
ms_mon_cluster_mode=crc
ms_mon_service_mode=crc
mon_osd_nearfull_ratio=0.95
mon_osd_backfillfull_ratio=0.97
paxos_propose_interval=0.02
paxos_min_wait=0.01
rgw_rados_pool_pg_num_min=1
rgw_thread_pool_size=32
rgw_enable_ops_log=false
debug_rgw=0/0
debug_ms=0/0
debug_osd=0/0
debug_mon=0/0
debug_paxos=0/0
rgw_frontends=beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_enable_usage_log=false
rgw_data={d}/rgw
{options}
crash_dir={d}/log
"""
