"""Owns the network: forty numbers about the traffic ahead and around, two hidden layers, one acceleration."""

from typing import cast

import torch
from torch import Tensor, nn

from flows.workloads.kit.bundle import Policy
from flows.workloads.kit.frames import Feature
from flows.workloads.kit.graph import Graph
from flows.workloads.kit.learning import Batch
from flows.workloads.recorded_traffic.world import OBSERVATION

FRAME = (Feature("obs", "float32", (OBSERVATION,)), Feature("label", "float32", (1,)))
_HUBER_BETA = 0.5


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Linear(OBSERVATION, 96)
        self.think = nn.Linear(96, 96)
        self.pedal = nn.Linear(96, 1)

    def forward(self, obs: Tensor) -> Tensor:
        return cast("Tensor", self.pedal(torch.relu(self.think(torch.relu(self.see(obs))))))

    def loss(self, batch: Batch) -> Tensor:
        error = nn.functional.smooth_l1_loss(self(batch["obs"]), batch["label"], reduction="none", beta=_HUBER_BETA)
        return error.sum(1)


def new_network(seed: int) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network()


def to_onnx(network: Network) -> bytes:
    graph = Graph({name: value.detach().numpy() for name, value in network.state_dict().items()})
    value = "obs"
    for layer in ("see", "think"):
        value = graph.add("Relu", [graph.dense(value, layer)])
    return graph.build("recorded_traffic", graph.dense(value, "pedal"), {"obs": [OBSERVATION]}, {"accel": 1})


def runtime(network: Network) -> Policy:
    return Policy(to_onnx(network))
