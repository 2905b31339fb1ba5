"""Where a job runs: the least by the policy among those that fit, the same answer in any order, always explained."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.factory.domain import Needs, Place, Policy, Profile, expected_s, place, weigh

GIB = 1 << 30
NEEDS = Needs(cpus=2, gpus=0, memory_bytes=GIB, expected_s=100)
LOCAL = Place("local", Profile(0.1, 15), cpus=2, memory_bytes=4 * GIB, slots=2)
HPC = Place("hpc", Profile(0.4, 5), cpus=64, memory_bytes=256 * GIB, slots=100, speed=2, queue_s=300, runs_images=False)
CLOUD = Place("cloud", Profile(2, 30, 3, 300), gpus=8, speed=4, slots=1000)
ALL = (LOCAL, HPC, CLOUD)


@pytest.mark.parametrize(
    ("policy", "chosen"), [(Policy.COST, "local"), (Policy.ENERGY, "hpc"), (Policy.DEADLINE, "cloud")]
)
def test_each_policy_has_its_own_best(policy: Policy, chosen: str) -> None:
    found = place(NEEDS, ALL, policy)
    assert found.cluster == chosen
    assert found.because.startswith(f"{chosen} is the ")
    assert {option.cluster for option in found.options} == {"local", "hpc", "cloud"}


@pytest.mark.parametrize(
    ("change", "misfits"),
    [
        ({"gpus": 1}, {"local": "0 GPUs, 1 are needed", "hpc": "0 GPUs"}),
        ({"cpus": 8}, {"local": "2 CPUs, 8 are needed"}),
        ({"memory_bytes": 8 * GIB}, {"local": "4.0 GiB of memory, 8.0 GiB are needed"}),
        ({"image": "sim:1"}, {"hpc": "it runs no images, sim:1 is asked for"}),
        ({"deadline_s": 60.0}, {"local": "100 s, the deadline is 60 s", "hpc": "350 s, the deadline is 60 s"}),
    ],
)
def test_what_does_not_fit_is_said(change: dict[str, Any], misfits: dict[str, str]) -> None:
    options = {option.cluster: option.misfit for option in place(replace(NEEDS, **change), ALL, Policy.COST).options}
    assert {name for name, misfit in options.items() if misfit} == set(misfits)
    assert all(words in options[name] for name, words in misfits.items())


def test_nothing_fits_with_every_reason() -> None:
    found = place(replace(NEEDS, gpus=16), ALL, Policy.COST)
    assert found.cluster is None
    assert all(name in found.because for name in ("local", "hpc", "cloud"))
    assert place(NEEDS, [], Policy.COST).because == "no cluster fits: no cluster was offered"


def test_a_full_cluster_takes_longer_and_what_was_measured_counts() -> None:
    busy = weigh(NEEDS, replace(LOCAL, busy=4))
    assert (busy.seconds, busy.usd) == (300, pytest.approx(0.1 * 100 / 3600))
    measured = weigh(NEEDS, replace(LOCAL, measured_s=10.0))
    assert (measured.seconds, measured.energy_j) == (10, 15 * 10 * 2)
    gpu = weigh(replace(NEEDS, gpus=2, expected_s=3600), CLOUD)
    assert (gpu.usd, gpu.energy_j) == (pytest.approx(0.25 * (2 + 2 * 3)), 900 * (30 * 2 + 300 * 2))


def test_what_one_cluster_measured_is_expected_of_the_others_at_their_speed() -> None:
    assert expected_s([LOCAL, HPC]) is None
    measured = [replace(LOCAL, measured_s=10.0), HPC]
    assert expected_s(measured) == 10
    assert expected_s([replace(LOCAL, measured_s=10.0), replace(HPC, measured_s=15.0)]) == 20  # 15 s at speed 2 are 30
    hpc = weigh(replace(NEEDS, expected_s=expected_s(measured) or 0), replace(HPC, queue_s=0))
    assert hpc.seconds == 5


places = st.builds(
    Place,
    name=st.sampled_from("abcdef"),
    profile=st.builds(Profile, st.floats(0, 10), st.floats(0, 500), st.floats(0, 10), st.floats(0, 500)),
    cpus=st.none() | st.floats(0.5, 64),
    gpus=st.floats(0, 8),
    slots=st.none() | st.integers(1, 100),
    speed=st.floats(0.1, 10),
    queue_s=st.floats(0, 1000),
    busy=st.integers(0, 1000),
)
needs = st.builds(Needs, st.floats(0.1, 64), st.floats(0, 8), st.integers(0, 8 * GIB), st.floats(1, 1000))


@given(needs, st.lists(places, max_size=6, unique_by=lambda each: each.name), st.sampled_from(Policy))
def test_no_fitting_cluster_is_better_and_order_does_not_matter(
    needs: Needs, offered: list[Place], policy: Policy
) -> None:
    found = place(needs, offered, policy)
    least = {Policy.COST: "usd", Policy.ENERGY: "energy_j", Policy.DEADLINE: "seconds"}[policy]
    fitting = {option.cluster: getattr(option, least) for option in found.options if not option.misfit}
    assert (found.cluster is None) == (not fitting)
    if found.cluster is not None:
        assert fitting[found.cluster] == min(fitting.values())
    assert place(needs, offered[::-1], policy) == found
