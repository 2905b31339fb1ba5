"""Datasets and trainings."""

from control_plane.client.ask import Ask, Call, Pages, Walk, create, get, post, segment
from control_plane.datasets.schemas import Dataset, DatasetCreate, DatasetItem
from control_plane.training.schemas import TrainingCreate, TrainingFinish, TrainingItem


class LearningCalls:
    @Call
    def publish_dataset(self, body: DatasetCreate) -> Ask[DatasetItem]:
        """Publish an immutable dataset version."""
        return create(DatasetItem, "/datasets", body)

    @Call
    def get_dataset(self, digest: str) -> Ask[Dataset]:
        """Return one dataset version with its manifest."""
        return get(Dataset, f"/datasets/{segment(digest)}")

    @Walk
    def list_datasets(self) -> Pages[DatasetItem]:
        """Walk dataset versions."""
        return Pages(DatasetItem, "/datasets")

    @Call
    def ask_training(self, body: TrainingCreate) -> Ask[TrainingItem]:
        """Ask for a training; one of the same key is returned as it stands."""
        return create(TrainingItem, "/trainings", body)

    @Walk
    def list_trainings(self) -> Pages[TrainingItem]:
        """Walk trainings, newest first."""
        return Pages(TrainingItem, "/trainings")

    @Call
    def get_training(self, key: str) -> Ask[TrainingItem]:
        """Return one training."""
        return get(TrainingItem, f"/trainings/{segment(key)}")

    @Call
    def finish_training(self, key: str, body: TrainingFinish) -> Ask[TrainingItem]:
        """Say how a training ended."""
        return post(TrainingItem, f"/trainings/{segment(key)}/finish", body)
