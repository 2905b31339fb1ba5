"""Why a job is where it is, and how it stands, in sentences."""

from control_plane.factory.domain import MAX_ATTEMPTS, JobState
from control_plane.factory.schemas import JobExplanation, JobItem, WeighedCluster


def explain(job: JobItem) -> JobExplanation:
    """Tell of a job what decided its cluster, what else was looked at, and what became of it."""
    lines = [_state(job), *_placed(job)]
    if job.cancel_reason:
        lines.append(f"cancelling was asked for: {job.cancel_reason}")
    kind = "estimated" if job.energy_is_estimate else "measured"
    lines.append(f"so far {job.wall_s:.1f} s of wall time, {job.usd:.4g} USD, {job.energy_j:.4g} J ({kind})")
    return JobExplanation(subject=job.key, lines=lines)


def _state(job: JobItem) -> str:
    tries = f"attempt {job.attempt} of {MAX_ATTEMPTS}" + (f", asked for {job.asked} times" if job.asked > 1 else "")
    match job.state:
        case JobState.RUNNING if job.silent_s > 0:
            return f"runs on {job.cluster} ({tries}), but {job.holder} was silent for {job.silent_s:.0f} s"
        case JobState.RUNNING:
            return f"runs on {job.cluster} ({tries}), held by {job.holder}"
        case JobState.FAILED:
            return f"failed on {job.cluster} ({tries}): {job.failure}"
        case _:
            return f"is {job.state} on {job.cluster} ({tries})" + (f": {job.failure}" if job.failure else "")


def _placed(job: JobItem) -> list[str]:
    if job.placement is None:
        return [f"the cluster {job.cluster} was named by whoever asked for the job"]
    return [f"by {job.placement.policy}: {job.placement.because}", *map(_weighed, job.placement.options)]


def _weighed(option: WeighedCluster) -> str:
    figures = f"{option.usd:.4g} USD, {option.energy_j:.4g} J, {option.seconds:.0f} s"
    return f"{option.cluster}: {figures}" + (f"; does not fit: {option.misfit}" if option.misfit else "")
