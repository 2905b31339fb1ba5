"""Owns reading a workload's own workload.yaml, so that contract and code cannot drift apart."""

from functools import cache
from pathlib import Path
from typing import cast

import yaml

from flows.workloads.kit.types import Json


@cache
def workload(module_file: str) -> Json:
    """Read the workload.yaml that lies beside the calling module (pass `__file__`)."""
    return cast("Json", yaml.safe_load(Path(module_file).with_name("workload.yaml").read_text()))


def model_contract(module_file: str) -> Json:
    """What contract.json of a bundle holds."""
    return cast("Json", workload(module_file)["model"])
