"""Reads a workload: a folder with a workload.yaml (docs/explanation/workload-contract.md)."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_FILE_BYTES = 1 << 20


class WorkloadError(ValueError):
    """The workload cannot be used; the message says what to change."""


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Command(Strict):
    """A command and what one job of it needs; where clusters differ, that decides where it may run."""

    run: list[str] = Field(min_length=1)
    timeout_s: float = Field(default=600, gt=0)
    cpus: float = Field(default=1, gt=0)
    gpus: float = Field(default=0, ge=0)
    memory_gib: float = Field(default=0, ge=0)


class Commands(Strict):
    """`replay` is optional: without it people see no replays of what the models did."""

    train: Command
    simulate: Command
    relabel: Command
    scenarios: Command
    replay: Command | None = None


class SuitePlan(Strict):
    """`repeat` is over how many seeds a situation is driven; the command `scenarios` gets it if it is not 1."""

    kind: str = Field(pattern="^(nominal|regression|field|reproduction|holdout)$")
    scenarios: int = Field(ge=1)
    seed: int
    repeat: int = Field(default=1, ge=1, le=100)


class WorkloadFile(Strict):
    """workload.yaml, field by field; what only the control plane reads (gate, rollout, events) is passed on."""

    schema_: str = Field(alias="schema", pattern=r"^fleetloop\.workload/v1$")
    name: str = Field(pattern="^[a-z0-9_]+$")
    title: str
    data_required: bool = False
    device_class: str
    sites: list[str] = Field(min_length=1)
    model: dict[str, Any]
    commands: Commands
    field: Command
    events: dict[str, dict[str, Any]]
    exposure: str
    suites: dict[str, SuitePlan]
    shard_scenarios: int = Field(ge=1)
    gate: dict[str, Any]
    rollout: dict[str, Any] = Field(default_factory=dict)
    recipes: dict[str, dict[str, Any]]
    curation: dict[str, Any] = Field(default_factory=dict)
    demo: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workload:
    folder: Path
    spec: WorkloadFile
    code_sha256: str

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def model(self) -> str:
        return str(self.spec.model["name"])

    @property
    def incident_kinds(self) -> list[str]:
        return [kind for kind, rule in self.spec.events.items() if rule.get("incident")]

    def recipe(self, name: str) -> Mapping[str, Any]:
        if name not in self.spec.recipes:
            raise WorkloadError(f"{self.name} has no recipe {name!r}; there are {', '.join(self.spec.recipes)}")
        return {key: value for key, value in self.spec.recipes[name].items() if key != "description"}


def find_workload(name: str) -> Workload:
    """Load a workload by folder, or by the name of one that ships with fleetloop.

    Raises:
        WorkloadError: there is none, or its workload.yaml is not understood.
    """
    given = Path(name)
    folder = given if (given / "workload.yaml").is_file() else Path(str(files("flows"))) / "workloads" / name
    path = folder / "workload.yaml"
    if not path.is_file():
        raise WorkloadError(f"there is no workload {name!r}: neither a folder with a workload.yaml nor one of ours")
    text = path.read_bytes()
    if len(text) > MAX_FILE_BYTES:
        raise WorkloadError(f"{path} has over {MAX_FILE_BYTES} bytes")
    try:
        spec = WorkloadFile.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise WorkloadError(f"{path}: {error}") from error
    return Workload(folder.resolve(), spec, _code_digest(folder))


def _code_digest(folder: Path) -> str:
    """Digest every source file of the workload and of the kit it stands on: other code, other job keys."""
    digest = hashlib.sha256()
    sources = [folder, folder.parent / "kit"] if folder.parent.name == "workloads" else [folder]
    for root in sources:
        for path in sorted(root.rglob("*")):
            if path.suffix in {".py", ".yaml"} and path.is_file() and "study" not in path.name:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
