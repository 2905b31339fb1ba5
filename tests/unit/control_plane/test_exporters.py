"""Exporters as they are: units, blanks, MIG, resets, renamed metrics, other buckets, and the same thing told twice."""

import contextlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.factory.domain import (
    Amount,
    ExporterKind,
    Figures,
    Histogram,
    Line,
    Measure,
    Quantile,
    Rates,
    Reading,
    UnreadableError,
    figures,
    from_plain,
    increase,
    merged,
    metered,
    quantile,
    read,
    read_exporter_url,
    to_plain,
)

FOLDER = Path(__file__).parents[2] / "fixtures" / "exporters"
GPU0, GPU1 = "GPU-00000000-aaaa-0000-0000-000000000000", "GPU-11111111-aaaa-0000-0000-000000000000"
DCGM, NODE, VLLM, TRITON = ExporterKind.DCGM, ExporterKind.NODE, ExporterKind.VLLM, ExporterKind.TRITON


def golden(kind: ExporterKind) -> str:
    return (FOLDER / f"{kind}.txt").read_text()


def amounts(kind: ExporterKind, before: str, now: str, seconds: float = 15.0) -> dict[str, Amount]:
    made = increase(read(before, kind, 1000.0), read(now, kind, 1000.0 + seconds))
    assert made is not None
    return dict(made.amounts)


def energy(text: str, mj: float) -> str:
    return text.replace("9000000000", f"{mj:.0f}")


@pytest.mark.parametrize("kind", list(ExporterKind))
def test_every_kind_is_read_and_a_second_scrape_of_the_same_adds_nothing(kind: ExporterKind) -> None:
    one = read(golden(kind), kind, 1000.0)
    assert one.counters
    made = increase(one, replace(one, at_s=1015.0))
    assert made is not None
    for amount in made.amounts.values():
        assert not amount.tokens_out
        assert not amount.requests
    assert all(held.count == 0 for held in made.histograms.values())
    assert from_plain(to_plain(one)) == replace(one, places={}, dropped=0)


def test_energy_is_told_in_millijoules_by_dcgm_and_in_joules_by_triton() -> None:
    text = golden(DCGM)
    found = amounts(DCGM, text, energy(text, 9000000000 + 4_500_000))
    assert found[GPU0].energy_j == pytest.approx(4500)  # 300 W for 15 s
    assert found[GPU0].busy_s == pytest.approx(0.8 * 15)
    triton = golden(TRITON)
    found = amounts(TRITON, triton, triton.replace("} 1000\n", "} 5500\n"))
    assert found[GPU0].energy_j == pytest.approx(4500)
    assert found[GPU0].busy_s == pytest.approx(0.75 * 15)


def test_blanks_of_dcgm_and_values_that_are_none_are_dropped() -> None:
    for blank in ("9223372036854775794", "2147483632", "140737488355328", "NaN", "+Inf", "-1"):
        text = golden(DCGM).replace("} 9000000000", f"}} {blank}")
        reading = read(text, DCGM, 0.0)
        assert (Measure.ENERGY_J, GPU0, "") not in reading.counters, blank
        assert (Measure.ENERGY_J, GPU1, "") in reading.counters
        assert reading.dropped == 1


def test_a_counter_that_comes_back_from_blank_does_not_count_its_whole_life() -> None:
    text = golden(DCGM)
    found = amounts(DCGM, energy(text, 2**63 - 14), text)
    assert found[GPU0].energy_j == pytest.approx(300 * 15)  # by power, as long as the counter has no two values


def test_a_counter_that_began_anew_counts_from_nothing_and_one_that_jumped_is_no_energy() -> None:
    text = golden(DCGM)
    assert amounts(DCGM, text, energy(text, 3_000_000))[GPU0].energy_j == pytest.approx(3000)
    assert amounts(DCGM, text, energy(text, 9e12))[GPU0].energy_j == pytest.approx(300 * 15)


def test_power_alone_is_energy_by_time() -> None:
    text = "\n".join(line for line in golden(DCGM).splitlines() if "ENERGY" not in line) + "\n"
    found = amounts(DCGM, text, text.replace("} 300", "} 500"))
    assert found[GPU0].energy_j == pytest.approx(400 * 15)


def test_a_gpu_told_of_for_each_instance_and_container_takes_its_power_once() -> None:
    head = '{gpu="0",UUID="GPU-a",Hostname="n",'
    parts = (("1", "3g.40gb", "a", 0.9), ("1", "3g.40gb", "b", 0.9), ("2", "1g.10gb", "c", 0.1))
    lines = []
    for instance, profile, pod, active in parts:
        labels = f'{head}GPU_I_ID="{instance}",GPU_I_PROFILE="{profile}",pod="{pod}"}}'
        lines += [f"DCGM_FI_DEV_POWER_USAGE{labels} 200", f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{labels} {active}"]
    reading = read("\n".join(lines) + "\n", DCGM, 0.0)
    assert reading.gauges[Measure.POWER_W, "GPU-a"] == 200
    assert reading.gauges[Measure.BUSY, "GPU-a"] == pytest.approx((3 * 0.9 + 1 * 0.1) / 4)


def test_missing_labels_are_not_made_up() -> None:
    text = 'DCGM_FI_DEV_POWER_USAGE{gpu="3",Hostname="n"} 5\nDCGM_FI_DEV_POWER_USAGE 7\n'
    reading = read(text, DCGM, 0.0)
    assert reading.gauges == {(Measure.POWER_W, "n/3"): 5}
    assert reading.dropped == 1
    assert reading.places == {"n/3": ("n", "3")}
    strange = read('DCGM_FI_DEV_POWER_USAGE{UUID="a b\\n' + "x" * 500 + '"} 5\n', DCGM, 0.0)
    [(_, source)] = strange.gauges
    assert len(source) == 16


def test_families_that_appear_with_the_first_request_count_from_nothing() -> None:
    empty = "\n".join(line for line in golden(VLLM).splitlines() if "process_start" in line) + "\n"
    made = increase(read(empty, VLLM, 1000.0), read(golden(VLLM), VLLM, 1015.0))
    assert made is not None
    assert made.amounts[""].tokens_out == 1000
    assert made.amounts[""].requests == 12
    assert made.histograms[Measure.FIRST_TOKEN_S].count == 12


def test_absent_is_not_zero() -> None:
    empty = "process_start_time_seconds 1\n"
    made = increase(read(empty, VLLM, 1000.0), read(empty, VLLM, 1015.0))
    assert made is not None
    assert made.amounts == {}
    assert figures([], Rates()).tokens_per_s is None


def test_a_renamed_metric_that_is_there_twice_counts_once() -> None:
    reading = read(golden(VLLM), VLLM, 0.0)
    between = [held for series, held in reading.histograms.items() if series.measure is Measure.BETWEEN_TOKENS_S]
    assert [held.count for held in between] == [988]


def test_an_upgrade_that_renames_a_metric_goes_on_counting() -> None:
    old = golden(VLLM).replace("inter_token_latency", "no_such")
    new = golden(VLLM).replace("time_per_output_token", "no_such").replace("1.7600000001e+09", "1.7600009e+09")
    made = increase(read(old, VLLM, 1000.0), read(new, VLLM, 1015.0))
    assert made is not None
    assert made.restarted
    assert made.histograms[Measure.BETWEEN_TOKENS_S].count == 988


def test_nim_with_and_without_a_prefix_and_dynamo_under_any() -> None:
    plain = read(golden(ExporterKind.NIM), ExporterKind.NIM, 0.0)
    prefixed = "".join(f"vllm:{line}\n" for line in golden(ExporterKind.NIM).splitlines() if not line.startswith("#"))
    assert sorted(read(prefixed, ExporterKind.NIM, 0.0).counters.values()) == sorted(plain.counters.values())
    for prefix in ("dynamo_frontend", "acme", "nv_llm_http_service"):
        text = golden(ExporterKind.DYNAMO).replace("dynamo_frontend", prefix)
        reading = read(text, ExporterKind.DYNAMO, 0.0)
        assert sum(v for series, v in reading.counters.items() if series.measure is Measure.TOKENS_OUT) == 400
        first = [held for series, held in reading.histograms.items() if series.measure is Measure.FIRST_TOKEN_S]
        assert [held.count for held in first] == [5], "what its router says of the same requests is not added"


def test_a_restart_and_other_buckets_count_from_nothing() -> None:
    text = golden(VLLM)
    new = text.replace('le="0.25"', 'le="0.3"').replace("1.7600000001e+09", "1.7600009e+09")
    made = increase(read(text, VLLM, 1000.0), read(new, VLLM, 1015.0))
    assert made is not None
    assert made.histograms[Measure.FIRST_TOKEN_S] == Histogram({0.1: 4, 0.3: 10, 1.0: 12, math.inf: 12}, 2.4)


def test_the_same_bound_written_otherwise_is_the_same_bound() -> None:
    made = increase(read(golden(VLLM), VLLM, 1000.0), read(golden(VLLM).replace('le="1.0"', 'le="1"'), VLLM, 1015.0))
    assert made is not None
    assert made.histograms[Measure.FIRST_TOKEN_S].count == 0


def test_a_dent_while_the_same_process_runs_is_no_restart() -> None:
    text = golden(VLLM)
    made = increase(read(text, VLLM, 1000.0), read(text.replace("} 1000.0", "} 999.0"), VLLM, 1015.0))
    assert made is not None
    assert made.amounts[""].tokens_out == 0


def test_a_kernel_that_turns_iowait_back_makes_nobody_idle_for_years() -> None:
    text = golden(NODE)
    later = text.replace('"idle"} 1000', '"idle"} 1010').replace('"iowait"} 50', '"iowait"} 49')
    later = later.replace('"user"} 400', '"user"} 405').replace('"idle"} 1200', '"idle"} 1215')
    found = amounts(NODE, text, later)[""]
    assert found.capacity_s == pytest.approx(30)
    assert found.busy_s == pytest.approx(5)


def test_a_processors_energy_counter_wraps() -> None:
    text = golden(NODE)
    assert amounts(NODE, text, text.replace("} 260000", "} 500"))[""].energy_j == pytest.approx(500)


def test_what_is_stale_is_not_believed() -> None:
    text = golden(VLLM)
    assert increase(read(text, VLLM, 1000.0), read(text, VLLM, 1301.0)) is None
    assert increase(read(text, VLLM, 1000.0), read(text, VLLM, 1000.0)) is None
    assert increase(None, read(text, VLLM, 1000.0)) is None
    old = "vllm:generation_tokens_total 5 1000000\n"
    assert read(old, VLLM, 1100.0).counters
    assert read(old, VLLM, 2000.0).dropped == 1


def test_what_is_no_exposition_is_refused_with_words() -> None:
    for text, words in (
        ("<html>sign in</html>", "not Prometheus"),
        ("", "no metric"),
        ("a{b=", "not Prometheus"),
        ('vllm:generation_tokens_total{a="1"', "not Prometheus"),
        ("vllm:generation_tokens_total x\n", "not Prometheus"),
    ):
        with pytest.raises(UnreadableError, match=words):
            read(text, VLLM, 0.0)
    many = "".join(f'vllm:generation_tokens_total{{a="{number}"}} 1\n' for number in range(5001))
    with pytest.raises(UnreadableError, match="5000 series"):
        read(many, VLLM, 0.0)
    gpus = "".join(f'DCGM_FI_DEV_POWER_USAGE{{UUID="{number}"}} 1\n' for number in range(65))
    with pytest.raises(UnreadableError, match="64 GPUs"):
        read(gpus, DCGM, 0.0)


@given(st.text(max_size=300))
def test_no_text_is_worse_than_unreadable(text: str) -> None:
    with contextlib.suppress(UnreadableError):
        assert isinstance(read(text, VLLM, 0.0), Reading)


def test_quantiles_are_read_by_straight_lines_and_say_where_they_end() -> None:
    held = Histogram({0.1: 10, 0.2: 20, math.inf: 20})
    assert quantile(held, 0.5) == Quantile(0.1)
    assert quantile(held, 0.75) == Quantile(pytest.approx(0.15))
    assert quantile(Histogram({0.1: 10, math.inf: 100}), 0.5) == Quantile(0.1, is_bound=True)
    assert quantile(Histogram({math.inf: 9}), 0.5) is None
    assert quantile(Histogram(), 0.5) is None
    assert quantile(Histogram({0.1: 0, 0.2: 4, math.inf: 4}), 0.5) == Quantile(pytest.approx(0.15))


def test_histograms_with_other_bounds_add_up_where_both_have_one() -> None:
    one, other = Histogram({0.1: 1, 0.2: 2, math.inf: 3}, 1.0), Histogram({0.2: 5, 0.4: 6, math.inf: 7}, 2.0)
    assert merged([one, other, Histogram()]) == Histogram({0.2: 7, math.inf: 10}, 3.0)


BUCKETS = st.lists(st.integers(0, 50), min_size=3, max_size=3).map(
    lambda adds: Histogram({0.1: adds[0], 0.5: sum(adds[:2]), math.inf: sum(adds)})
)


@given(st.lists(BUCKETS, max_size=6), st.floats(0.01, 0.99))
def test_a_quantile_lies_within_the_bucket_that_holds_it(parts: list[Histogram], share: float) -> None:
    held = merged(parts)
    found = quantile(held, share)
    assert (found is None) == (held.count == 0)
    if found is not None:
        below = max((bound for bound, n in held.at_most.items() if n < share * held.count), default=0.0)
        assert below <= found.value <= 0.5
        assert found.is_bound == (held.at_most[0.5] < share * held.count)


def test_minutes_share_what_happened_by_time() -> None:
    text = golden(DCGM)
    made = increase(read(text, DCGM, 50.0), read(energy(text, 9003000000), DCGM, 80.0))
    assert made is not None
    assert list(made.minutes()) == [(0, pytest.approx(1 / 3)), (60, pytest.approx(2 / 3))]


def line(kind: ExporterKind, source: str = "", step: int = 0, **values: float) -> Line:
    return Line(step, kind, f"{kind}", source, Amount(**{"covered_s": 60.0} | values))


def test_the_figures_of_a_known_hour() -> None:
    lines = [line(DCGM, GPU0, step, energy_j=18_000, busy_s=30, capacity_s=60) for step in range(60)]
    lines += [line(VLLM, step=step, tokens_out=6000, requests=10) for step in range(60)]
    lines += [line(NODE, step=step, energy_j=6000, busy_s=60, capacity_s=240) for step in range(60)]
    found = figures(lines, Rates(usd_per_hour=1, usd_per_gpu_hour=2, usd_per_kwh=0.25))
    assert (found.gpus, found.power_w, found.gpu_busy, found.cpu_busy) == (1, 300, 0.5, 0.25)
    assert found.tokens_per_s == pytest.approx(100)
    assert found.tokens_per_j == pytest.approx(6000 / 24_000)
    assert found.j_per_token == pytest.approx(4)
    assert found.energy_j == pytest.approx(60 * 24_000)
    assert found.usd == pytest.approx(3 + 0.25 * 60 * 24_000 / 3.6e6)
    assert found.usd_per_million_tokens == pytest.approx((found.usd or 0) / 0.36)


def test_what_is_told_twice_counts_once() -> None:
    lines = [line(DCGM, GPU0, energy_j=100), line(TRITON, GPU0, energy_j=90)]
    lines += [line(ExporterKind.DYNAMO, tokens_out=50), line(VLLM, tokens_out=50), line(VLLM, tokens_out=1)]
    found = figures(lines, Rates())
    assert (found.gpu_energy_j, found.gpus, found.tokens_out) == (100, 1, 50)
    assert found.served_by is ExporterKind.DYNAMO
    blank = figures([line(DCGM, GPU0), line(TRITON, GPU0, energy_j=90)], Rates())
    assert blank.gpu_energy_j == 90


def test_quotients_are_taken_where_both_were_measured() -> None:
    lines = [line(VLLM, step=step, tokens_out=60) for step in (0, 1)] + [line(DCGM, GPU0, 1, energy_j=30)]
    assert figures(lines, Rates()).tokens_per_j == pytest.approx(2)
    assert figures(lines[:2], Rates()).tokens_per_j is None
    assert figures(lines[:2], Rates(usd_per_gpu_hour=2)).usd is None, "a price of GPUs, and none was seen"
    nothing: Figures = figures([line(VLLM, tokens_out=0.0)], Rates(usd_per_hour=1))
    assert (nothing.tokens_out, nothing.usd_per_million_tokens) == (None, None)


def test_tritons_waits_come_of_two_counters() -> None:
    found = figures([line(TRITON, requests=150, queue_s=3.0)], Rates())
    assert found.queue_s == pytest.approx(0.02)


def test_a_jobs_energy_is_that_of_its_own_seconds() -> None:
    minutes = [(60.0 * n, Amount(covered_s=60, energy_j=6000, busy_s=30, capacity_s=60)) for n in range(5)]
    found = metered(minutes, 90.0, 210.0, 1)
    assert found.energy_j == pytest.approx(12_000)
    assert (found.covered, found.busy) == (1.0, 0.5)
    half = metered(minutes[:2], 90.0, 150.0, 1)
    assert half.covered == pytest.approx(0.5)
    assert half.energy_j == pytest.approx(6000)
    assert metered([], 0.0, 10.0, 1).covered == 0


def test_only_what_an_exporter_may_have_is_an_address() -> None:
    assert read_exporter_url("http://node1:9400/metrics")
    assert read_exporter_url("https://[2001:db8::1]:9400/metrics?x=1")
    for url in (
        "ftp://a/metrics",
        "file:///etc/passwd",
        "http://",
        "http://user:word@a/",
        "http://a/#x",
        "http://169.254.169.254/latest",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0:9400/",
        "http://a b/",
        "http://a:0/",
        f"http://{'a' * 600}/",
    ):
        with pytest.raises(ValueError, match=r"\w"):
            read_exporter_url(url)
