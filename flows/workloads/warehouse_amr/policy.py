"""Owns the network: two convolutions over three scans, joined with fourteen numbers; its training form and its ONNX.

The vector: route point 1.5 m ahead (x, y)/1.5, point 3 m ahead (x, y)/3, distance to goal/5 (clipped), speed, turn,
wheel speed, slip memory x 3, last command (2), speed and turn 0.1 s ago, wheel minus body speed.
"""

from typing import cast

import torch
from torch import Tensor, nn

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.frames import Feature
from flows.workloads.kit.graph import Graph
from flows.workloads.kit.learning import Batch
from flows.workloads.warehouse_amr.observation import MIRROR_COMMAND, MIRROR_VECTOR, SCANS, VECTOR
from flows.workloads.warehouse_amr.world import RAYS

FRAME = (
    Feature("scan", "float16", (SCANS, RAYS)),
    Feature("vec", "float32", (VECTOR,)),
    Feature("label", "float32", (2,)),
)
_COMMAND_WEIGHT = torch.tensor([1.0, 0.7])
_HUBER_BETA = 0.1
_FLAT = 32 * (RAYS // 4)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv1d(SCANS, 24, 5, 2, 2)
        self.wide = nn.Conv1d(24, 32, 3, 2, 1)
        self.join = nn.Linear(_FLAT + VECTOR, 128)
        self.think = nn.Linear(128, 64)
        self.command = nn.Linear(64, 2)

    def forward(self, scan: Tensor, vec: Tensor) -> Tensor:
        seen = torch.relu(self.wide(torch.relu(self.near(1 - scan)))).flatten(1)
        hidden = torch.relu(self.think(torch.relu(self.join(torch.cat([seen, vec], 1)))))
        return cast("Tensor", self.command(hidden))

    def loss(self, batch: Batch) -> Tensor:
        """One value per row: smooth L1, the turn counting a little less than the speed."""
        predicted = self(batch["scan"].float(), batch["vec"])
        error = nn.functional.smooth_l1_loss(predicted, batch["label"], reduction="none", beta=_HUBER_BETA)
        return (error * _COMMAND_WEIGHT).sum(1)


def new_network(seed: int) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network()


def mirrored(batch: Batch, generator: torch.Generator) -> Batch:
    """Half of the batches see the world mirrored: left and right are the same problem."""
    if float(torch.rand(1, generator=generator)) >= 0.5:
        return batch
    vec, label = torch.from_numpy(MIRROR_VECTOR), torch.from_numpy(MIRROR_COMMAND)
    return {**batch, "scan": batch["scan"].flip(2), "vec": batch["vec"] * vec, "label": batch["label"] * label}


def to_onnx(network: Network) -> bytes:
    graph = Graph({name: value.detach().numpy() for name, value in network.state_dict().items()})
    one = torch.ones(1).numpy()
    value = graph.add("Sub", [graph.constant("one", one), "scan"])
    for layer, pad in (("near", 2), ("wide", 1)):
        value = graph.add("Relu", [graph.convolve(value, layer, stride=2, pad=pad)])
    value = graph.add("Concat", [graph.add("Flatten", [value], axis=1), "vec"], axis=1)
    for layer in ("join", "think"):
        value = graph.add("Relu", [graph.dense(value, layer)])
    value = graph.dense(value, "command")
    return graph.build("warehouse_amr", value, {"scan": [SCANS, RAYS], "vec": [VECTOR]}, {"cmd": 2})


def runtime(network: Network) -> Policy:
    return Policy(to_onnx(network))
