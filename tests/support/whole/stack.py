"""`fleetloop up` as a company runs it: other people's PostgreSQL, S3, Slurm and Ray, nginx in front, two of our own.

What is ours is started as `Stack` does it; what is not comes from the system's packages. Everything binds loopback and
ends with this process. Paths of sockets bound the folder: it must be short.
"""

import os
import sys
from pathlib import Path

import boto3

from control_plane.cli.processes import Program, free_port
from control_plane.cli.stack import Stack, StackOptions
from control_plane.client import Client
from tests.bench.nginx import PROGRAM as NGINX
from tests.kit.objects.servers import ON_DISK, Server, make_ceph
from tests.support.whole.clusters import Clusters
from tests.support.whole.database import Postgres
from tests.support.whole.proxy import Behind, configure

REPLICAS = (1, 2)
BUCKET = "fleetloop"
OURS = tuple(f"{program}-{number}" for program in ("people", "devices", "worker") for number in REPLICAS)


class Whole(Stack):
    def __init__(self, home: Path, *, check_in_s: float = 1.5, tick_s: float = 0.5, evidence_cell_s: int = 5) -> None:
        options = StackOptions(home=home, check_in_s=check_in_s, tick_s=tick_s, evidence_cell_s=evidence_cell_s)
        super().__init__(options)
        self.metrics_ports = {name: free_port() for name in OURS}
        # What machines of a company believe: agents, flows, jobs and whoever started us, for where objects are.
        os.environ["SSL_CERT_FILE"] = str(self.home / "nginx" / "device-ca.crt")
        self.database = Postgres(self.home / "postgres")
        self.clusters = Clusters(self.home / "clusters", self.url, self.home / "tokens" / "pipeline.token")
        self.objects_port = free_port()
        self._ports = [free_port() for _ in REPLICAS]
        self._sockets = [self.home / f"devices-{number}.sock" for number in REPLICAS]
        self.store: Server | None = None

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.database.start(self.supervisor)
        self.database_url = self.database.url
        self.store = make_ceph(self.home / "ceph", self._start_part, ON_DISK)
        self.clusters.start(self.supervisor, sys.executable)
        super().start()
        self.clusters.state(Client(self.url, self.tokens["admin"]))

    def _start_part(self, name: str, command: list[str]) -> None:
        self.supervisor.start(Program(name, command, {}))

    def _started_store(self) -> Server:
        assert self.store is not None, "the object store is started first"
        return self.store

    def environment(self) -> dict[str, str]:
        store = self._started_store()
        return super().environment() | {
            "FLEETLOOP_OBJECT_STORE": f"s3://{BUCKET}",
            "FLEETLOOP_S3_ENDPOINT": store.endpoint,
            "FLEETLOOP_S3_PUBLIC_ENDPOINT": f"https://127.0.0.1:{self.objects_port}",
            "FLEETLOOP_DEVICE_AUTH": "mtls",
            "AWS_ACCESS_KEY_ID": store.access_key,
            "AWS_SECRET_ACCESS_KEY": store.secret_key,
        }

    def flow_environment(self) -> dict[str, str]:
        return super().flow_environment() | {"FLEETLOOP_CLUSTERS": str(self.clusters.file)}

    def _prefect_environment(self) -> dict[str, str]:
        return super()._prefect_environment() | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database.prefect_url,
        }

    def _start_server(self) -> None:
        self.start_ours()
        store = int(self._started_store().endpoint.rpartition(":")[2])
        behind = Behind(self.device_port, self._sockets, self.port, self._ports, self.objects_port, store)
        conf = configure(self.home / "nginx", self.home / "keys" / "device-ca.pem", behind)
        self._start_part("nginx", [NGINX or "nginx", "-p", str(conf.parent), "-c", str(conf)])

    def start_ours(self) -> None:
        """Start what is ours of the control plane; again, after `stop_ours`, at the same addresses."""
        for number, port, socket in zip(REPLICAS, self._ports, self._sockets, strict=True):
            self._start_ours(f"people-{number}", "main", "--serve", "people", "--port", str(port))
            self._start_ours(f"devices-{number}", "main", "--serve", "devices", "--proxied-socket", str(socket))
            self._start_ours(f"worker-{number}", "worker")

    def stop_ours(self) -> None:
        for name in OURS:
            self.supervisor.stop(name)

    def wait_ready(self) -> None:
        self._wait_ready()

    def _start_ours(self, name: str, module: str, *arguments: str) -> None:
        metrics = ["--metrics-port", str(self.metrics_ports[name])]
        command = [sys.executable, "-m", f"control_plane.{module}", *arguments, *metrics]
        self.supervisor.start(Program(name, command, self.environment()))

    def empty_bucket(self) -> int:
        """Delete every object; return how many there were."""
        store, deleted = self._started_store(), 0
        s3 = boto3.client(
            "s3",
            endpoint_url=store.endpoint,
            aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret_key,
            region_name="us-east-1",
        )
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            keys = [{"Key": each["Key"]} for each in page.get("Contents", [])]
            if keys:
                s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys, "Quiet": True})
            deleted += len(keys)
        return deleted

    def stop(self) -> None:
        self.clusters.stop()
        super().stop()
