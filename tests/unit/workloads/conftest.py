import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.job import Job
from flows.workloads.warehouse_amr import train
from flows.workloads.warehouse_amr.policy import new_network, runtime

TINY = {
    "pretrain": {"teacher_missions": 6, "rounds": 1, "round_missions": 4, "epochs": [1, 1]},
    "train": {"epochs": 1},
    "relabel": {"resim_variants": 1, "home_missions": 2, "student_epochs": 1},
}


def make_job(folder: Path, inputs: dict[str, Path] | None = None, **params: Any) -> Job:
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "inputs").mkdir()
    (folder / "outputs").mkdir()
    for name, target in (inputs or {}).items():
        link = folder / "inputs" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return Job.at(folder)


def make_parent(folder: Path, outputs: Path) -> Path:
    """A parent as the contract gives it: the bundle's files and the checkpoint in one folder."""
    folder.mkdir()
    for file in (outputs / "model").iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "checkpoint").symlink_to(outputs / "checkpoint")
    return folder


def make_device(root: Path, name: str, bundle: Path, site: str) -> Path:
    """A device's state directory as its agent leaves it: enrolled, with an active model."""
    device, digest = root / name, "ab" * 32
    (device / "slots" / "a").mkdir(parents=True)
    (device / "slots" / "a" / f"1.{digest}").symlink_to(bundle)
    (device / "active").symlink_to(f"slots/a/1.{digest}")
    body = {"device_id": name, "site": site, "device_class": "sim", "labels": {}}
    (device / "device.json").write_text(json.dumps(body))
    return device


@pytest.fixture(scope="session")
def reckless() -> Policy:
    """A network that never learned anything: it drives into things, which is what some tests need."""
    return runtime(new_network(5))


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a very small pretraining of the warehouse robot."""
    job = make_job(tmp_path_factory.mktemp("jobs") / "pretrain", mode="pretrain", seed=3, recipe=TINY)
    train.command(job)
    return job.folder / "outputs"


@pytest.fixture
def say_seed() -> Callable[[int], np.random.Generator]:
    return np.random.default_rng
