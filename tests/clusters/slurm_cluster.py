"""A real Slurm on this machine: munged, slurmctld and two slurmd of one CPU each, on ports of their own."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.clusters.processes import Start, kill_tree, starting, until
from tests.kit.objects.servers import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"


def why_not() -> str | None:
    missing = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    if missing:
        return f"no {', '.join(missing)} here; on Debian: apt-get install --no-install-recommends {PACKAGES}"
    return None if os.geteuid() == 0 else "slurmd starts jobs as their users, so it needs root"


def search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


@dataclass
class Slurm:
    conf: Path
    nodes: dict[str, list[str]]
    start: Start
    env: dict[str, str] = field(default_factory=dict)

    def call(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=self.env)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "low", "-o", "%N %T"], capture_output=True, text=True, check=False, env=self.env
        )
        return done.stdout.count(" idle") == len(self.nodes)

    def start_node(self, name: str) -> None:
        self.start(name, self.nodes[name], self.env)

    def stop_jobs(self) -> None:
        """End every job: steps are nobody's children and would outlive their daemons."""
        self.call("scancel", "--user=root", "--signal=KILL", "--full")
        self.call("scancel", "--user=root")
        until(lambda: not self.call("squeue", "-h"), 30, "Slurm's queue is empty")

    def node_of(self, pid: int) -> str:
        """Return the node on which a process runs."""
        for each in [psutil.Process(pid), *psutil.Process(pid).parents()]:
            name = each.environ().get("SLURMD_NODENAME")
            if name:
                return name
        raise AssertionError(f"process {pid} is no job's")

    def lose_node(self, pid: int) -> str:
        """Take the power from the node on which a process runs: its slurmd, its steps and all their children."""
        name = self.node_of(pid)
        steps = [
            each.pid
            for each in psutil.process_iter(["name", "cmdline"])
            if self._is_daemon_of(each, name) or self._is_step_of(each, name)
        ]
        for step in steps:
            kill_tree(step)
        return name

    def _is_daemon_of(self, process: psutil.Process, node: str) -> bool:
        """Say whether a process is the slurmd of a node of this cluster; others may run beside it."""
        words = process.info["cmdline"] or []
        return process.info["name"] == "slurmd" and node in words and str(self.conf) in words

    def _is_step_of(self, process: psutil.Process, node: str) -> bool:
        """Say whether a process keeps a step of a node: its children know the node's name."""
        try:
            if process.info["name"] != "slurmstepd" or process.environ().get("SLURM_CONF") != str(self.conf):
                return False
            return any(child.environ().get("SLURMD_NODENAME") == node for child in process.children())
        except psutil.Error:
            return False


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Slurm]:
    with ExitStack() as running:
        slurm = make_slurm(folder, starting(running, folder))
        try:
            yield slurm
        finally:
            slurm.stop_jobs()


def make_slurm(folder: Path, start: Start) -> Slurm:
    """Make and start a Slurm; return once its nodes are idle."""
    conf, host = folder / "slurm.conf", socket.gethostname()
    ports = {f"n{number}": free_port() for number in (1, 2)}
    nodes = "\n".join(NODE.format(name=name, host=host, port=port) for name, port in ports.items())
    conf.write_text(CONF.format(d=folder, host=host, port=free_port(), nodes=nodes))
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(conf), "PATH": search_path()}
    socket_file = folder / "munge.socket"
    munge = [
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_file}",
        f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
    ]  # fmt: skip
    start("munged", munge, environment)
    until(socket_file.exists, 10, "munged answers")
    start("slurmctld", ["slurmctld", "-D", "-i", "-f", str(conf)], environment)
    commands = {name: ["slurmd", "-D", "-N", name, "-f", str(conf)] for name in ports}
    slurm = Slurm(conf, commands, start, environment)
    for name in ports:
        slurm.start_node(name)
    until(slurm.idle, 60, "both nodes of Slurm are idle")
    return slurm


NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4096"
CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={d}/munge.socket
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool-%n
SlurmctldPidFile={d}/slurmctld.pid
SlurmdPidFile={d}/slurmd-%n.pid
SlurmctldLogFile={d}/slurmctld.log
SlurmdLogFile={d}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SlurmctldTimeout=10
SlurmdTimeout=6
KillWait=5
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
{nodes}
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""
