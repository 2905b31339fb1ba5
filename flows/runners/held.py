"""On which machine and GPUs this process is, as exporters would name them; what is not certain is not said."""

import os
import re
from collections.abc import Mapping

UUID = re.compile(r"GPU-[0-9a-f-]{8,64}")
NODE = re.compile(r"[A-Za-z0-9_.:-]{1,200}")
MOST = 64


def node() -> str:
    name = os.uname().nodename
    return name if NODE.fullmatch(name) else ""


def gpu_ids(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that a back end gave to this process: UUIDs, else numbers on the machine.

    Within a Slurm job CUDA_VISIBLE_DEVICES counts from 0 whatever was given, so there its numbers say nothing; Slurm's
    own do. An instance of a GPU (MIG) is not told apart from its neighbours by what a GPU takes, so it is not said.
    """
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        said = _parts(environment.get(name, ""))
        if said and all(UUID.fullmatch(part) for part in said):
            return said
    name = "CUDA_VISIBLE_DEVICES"
    if "SLURM_JOB_ID" in environment:
        name = "SLURM_STEP_GPUS" if environment.get("SLURM_STEP_GPUS") else "SLURM_JOB_GPUS"
    said = _parts(environment.get(name, ""))
    return said if all(re.fullmatch(r"[0-9]{1,3}", part) for part in said) else []


def _parts(said: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in said.split(",") if part.strip()))[:MOST]
