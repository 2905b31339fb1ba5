"""Owns fitting a small network to frames on one thread: seeded, weighted, and the same every time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flows.workloads.kit.types import WorkloadError

Batch = dict[str, Tensor]
Augment = Callable[[Batch, torch.Generator], Batch]


@dataclass(frozen=True)
class Schedule:
    epochs: int
    learning_rate: float
    batch_rows: int = 512
    weight_decay: float = 1e-4


def one_thread() -> None:
    """Two threads on two busy cores were five times slower than one."""
    torch.set_num_threads(1)


def fit(
    network: nn.Module,
    loss: Callable[[Batch], Tensor],
    data: Batch,
    schedule: Schedule,
    *,
    seed: int,
    augment: Augment | None = None,
) -> float:
    """Fit in place and give the last epoch's mean loss. `loss` gives one value per row; `data` holds `weight`."""
    rows = len(data["weight"])
    batches = max(1, rows // schedule.batch_rows)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    pace = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=schedule.epochs * batches + 1, pct_start=0.1
    )
    total = 0.0
    for _ in range(schedule.epochs):
        order, total = torch.randperm(rows, generator=generator), 0.0
        for index in order[: batches * schedule.batch_rows].chunk(batches):
            batch = {name: values[index] for name, values in data.items()}
            if augment is not None:
                batch = augment(batch, generator)
            value = (loss(batch) * batch["weight"]).mean()
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]  # torch has no type here
            optimizer.step()
            pace.step()
            total += float(value.detach())
    return total / batches


def save_checkpoint(network: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)


def load_checkpoint(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WorkloadError(f"{path}: does not fit this network: {error}") from error
