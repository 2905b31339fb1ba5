"""docs/how-to/clusters.md: its commands do what it says, its clusters.yaml is one, its placement is explained."""

import asyncio
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from control_plane.cli import connection
from control_plane.client import Client, ClientError
from control_plane.factory.schemas import ClusterPut, JobCreate, JobItem, JobSpec, PlaceAsk
from control_plane.kit.roles import Role
from flows.runners.back_ends.configured import ClusterConfigError, Clusters, read_file
from flows.runners.cluster import Cluster
from tests.support.cli import fleetloop
from tests.support.live import serve

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "clusters.md").read_text()


def asked(client: Client, **needs: Any) -> JobItem:
    spec = JobSpec(command=["python", "-c", "pass"], timeout_s=600, **needs)
    place = PlaceAsk(among=["local", "hpc", "gpus", "k8s", "osmo"], expected_s=100)
    key = "-".join(f"{name}{value}" for name, value in {"job": 1, **needs}.items())
    return client.submit_job(JobCreate(key=key, kind="train", place=place, spec=spec))


async def test_the_commands_of_the_page_do_what_it_says(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [shlex.split(line) for line in re.findall(r"^fleetloop (.*)$", PAGE, re.MULTILINE)]
    assert len(commands) == 9
    async with serve(database_url, tmp_path) as live:
        monkeypatch.setenv("FLEETLOOP_SERVER", live.url)
        monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.ADMIN])

        def go() -> list[str]:
            client = live.client()
            client.put_cluster("local", ClusterPut(backend="local", usd_per_hour=0.1, watts=15, cpus=2))
            said = [fleetloop(*words) for words in commands[:5]]
            assert asked(client).cluster == "local"
            assert asked(client, cpus=8).cluster == "hpc"
            job = asked(client, gpus=1)
            assert job.cluster == "gpus"
            assert asked(client, image="sim:1").cluster == "k8s"
            with pytest.raises(ClientError) as nowhere:
                asked(client, gpus=9)
            assert (nowhere.value.status, nowhere.value.code) == (422, "no_cluster_fits")
            assert "gpus: it gives a job 4 GPUs, 9 are needed" in nowhere.value.detail
            said += [fleetloop(*(job.key if word == "JOB" else word for word in words)) for words in commands[5:]]
            client.close()
            assert [ended.status for ended in said] == [0] * len(said), said
            return [ended.out for ended in said]

        out = await asyncio.to_thread(go)
        connection.close()
    assert "by cost: gpus is the cheapest of 3 that fit (5 looked at)" in out[5]
    assert "hpc: " in out[5]
    assert "does not fit: it gives a job 0 GPUs, 1 are needed" in out[5]


def test_its_file_of_clusters_is_one(tmp_path: Path) -> None:
    block, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "clusters.yaml"
    path.write_text(block)
    said = read_file(path)
    assert [each.backend for each in said.clusters.values()] == ["local", "slurm", "ray"]
    assert str(said.policy) == "cost"


@pytest.mark.parametrize(
    "text",
    ["", "clusters: {}", "clusters: {a: {backend: moon}}", "clusters: {a: {backend: local, x: 1}}", "a: [", "[1]"],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clusters.yaml"
    path.write_text(text)
    with pytest.raises(ClusterConfigError, match=r"clusters\.yaml"):
        read_file(path)


def test_the_slowest_to_start_says_how_long_shards_are() -> None:
    def cluster(name: str, scale: int) -> Cluster:
        nothing: Any = None
        return Cluster(nothing, name, nothing, 2, shard_scale=scale)

    assert Clusters([cluster("a", 4), cluster("b", 32)]).shard_scale == 32
    assert Clusters([cluster("a", 1)]).shard_scale == 1


def test_a_variable_that_is_none_is_refused(tmp_path: Path) -> None:
    """It would stand unquoted in the script that Slurm runs."""
    block, *_ = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "clusters.yaml"
    for name, fits in (("OMP_NUM_THREADS", True), ("A; touch /tmp/x #", False), ("A=B", False), ("", False)):
        path.write_text(block.replace("    slots: 200\n", f"    slots: 200\n    env: {{{json.dumps(name)}: x}}\n"))
        if fits:
            assert read_file(path).clusters["hpc"].model_dump()["env"] == {name: "x"}
            continue
        with pytest.raises(ClusterConfigError, match="pattern"):
            read_file(path)
