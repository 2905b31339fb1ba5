"""What a job's attempt says it runs on: only what names the same GPU outside it too."""

import pytest

from flows.runners.held import gpu_ids, node

UUID = "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, []),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": UUID}, [UUID]),
        ({"NVIDIA_VISIBLE_DEVICES": UUID, "CUDA_VISIBLE_DEVICES": "0"}, [UUID]),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, []),
        ({"CUDA_VISIBLE_DEVICES": "MIG-1c2d3e4f-0000-0000-0000-000000000000"}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7"}, []),
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "5"}, ["5"]),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "5,6", "SLURM_STEP_GPUS": "6"}, ["6"]),
        ({"CUDA_VISIBLE_DEVICES": "0,0, 1"}, ["0", "1"]),
    ],
)
def test_gpus_are_named_as_exporters_name_them(environment: dict[str, str], found: list[str]) -> None:
    assert gpu_ids(environment) == found


def test_a_node_has_a_name() -> None:
    assert node()
