"""Tells a control plane of a workload: its cluster, device class, model and pipeline, as workload.yaml has them."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from control_plane.client import Ask, Calls, Client
from control_plane.factory.schemas import ClusterPut
from control_plane.fleet.schemas import DeviceClassPut
from control_plane.kit.errors import Invalid
from control_plane.pipelines.schemas import PipelinePut, TriggerBody
from control_plane.registry.schemas import ModelPut

LOCAL = ClusterPut(
    backend="local",
    usd_per_hour=0.10,
    watts=15.0,
    note="estimate: a small cloud machine's price, one busy core's power",
)


def read_workload(name: str) -> tuple[Path, dict[str, Any]]:
    """Return a workload's folder and its yaml, by folder or by the name of one that ships with fleetloop."""
    given = Path(name)
    ours = Path(str(files("flows"))) / "workloads" / name
    folder = given if (given / "workload.yaml").is_file() else ours
    path = folder / "workload.yaml"
    if not path.is_file():
        raise Invalid(f"there is no workload {name!r}: neither a folder with a workload.yaml nor one of ours")
    try:
        spec = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise Invalid(f"{path} is not YAML: {error}") from error
    missing = {"name", "model", "events", "exposure", "gate", "device_class", "sites"} - set(spec or {})
    if missing:
        raise Invalid(f"{path} lacks {', '.join(sorted(missing))}")
    return folder, spec


def add_workload(client: Client, name: str, trigger: TriggerBody | None = None, *, simulated: bool = False) -> str:
    """Register everything the loop needs to know of a workload; return its pipeline's name. Safe to repeat."""
    pipeline, asks = workload_asks(name, trigger, simulated=simulated)
    for ask in asks:
        client.make(ask)
    return pipeline


def workload_asks(
    name: str, trigger: TriggerBody | None = None, *, simulated: bool = False
) -> tuple[str, list[Ask[Any]]]:
    """Return the name of a workload's pipeline, and what has to be asked of a control plane to register it."""
    folder, spec = read_workload(name)
    model = spec["model"]
    words = {
        "title": spec["title"],
        "contract": {key: model[key] for key in ("inputs", "outputs", "golden")},
        "events": spec["events"],
        "exposure": spec["exposure"],
        "gate": spec["gate"],
        "rollout": spec.get("rollout", {}),
    }
    pipeline = PipelinePut(
        flow="loop",
        model=model["name"],
        trigger=trigger or TriggerBody(),
        params={
            "workload": str(folder.resolve()) if Path(name).is_dir() else name,
            "recipe": "standard",
            "seed": 1,
        },
    )
    device_class = DeviceClassPut(title=spec["title"], facts={"simulated": simulated})
    return str(spec["name"]), [
        Calls.put_cluster.ask("local", LOCAL),
        Calls.put_device_class.ask(spec["device_class"], device_class),
        Calls.put_model.ask(model["name"], ModelPut.model_validate(words)),
        Calls.put_pipeline.ask(spec["name"], pipeline),
    ]
