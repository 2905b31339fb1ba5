"""The machine through its port: a fake sysfs of each kind, and the machine the tests run on."""

import os
import time
from pathlib import Path

import pytest

from agents.platform import Conditions, EnergyReading, PlatformFacts, between, platform_of
from agents.platform.energy import PackageMeter, PowerMeter, SimulatedMeter
from agents.platform.jetson import read
from agents.platform.rails import DevicePower, read_rails_w

CONF = "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=30W >\n"
DPKG = """Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5

Package: bash
Version: 5.1

Package: nvidia-jetpack
Version: 6.2+b77
"""
INA = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"


def put(root: Path, files: dict[str, str | int]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}")
    return root


def rail(folder: str, channel: int, name: str, millivolts: int, milliamperes: int) -> dict[str, str | int]:
    return {
        f"{folder}/in{channel}_label": name,
        f"{folder}/in{channel}_input": millivolts,
        f"{folder}/curr{channel}_input": milliamperes,
    }


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    return put(
        tmp_path / "orin",
        {
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
            "etc/nvpmodel.conf": CONF,
            "var/lib/nvpmodel/status": "pmode:0002",
            "var/lib/dpkg/status": DPKG,
            "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "12.6.68"}}',
            "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\x00",
            "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\x00nvidia,tegra234\x00",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 48250,
            "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
            "sys/class/thermal/thermal_zone1/temp": -256000,
            "sys/class/thermal/thermal_zone2/type": "tj-thermal",
            "sys/class/thermal/thermal_zone2/temp": 51000,
            "sys/class/thermal/cooling_device0/type": "cpu-throttle-alert",
            "sys/class/thermal/cooling_device0/cur_state": 1,
            "sys/class/hwmon/hwmon3/oc1_event_cnt": 4,
            "sys/class/devfreq/17000000.gpu/device/load": 390,
            f"{INA}/curr1_crit_alarm": 0,
            **rail(INA, 1, "VDD_GPU_SOC", 19000, 147),
            **rail(INA, 2, "VDD_CPU_CV", 19000, 42),
            **rail(INA, 3, "VIN_SYS_5V0", 5000, 663),
            **rail(INA, 4, "NC", 5000, 1),
            **rail(INA, 7, "sum", 99, 99),
        },
    )


def test_an_orin_in_full(orin: Path) -> None:
    facts = read(orin)
    assert facts == {
        **facts,
        "l4t": "36.4.3",
        "jetpack": "6.2+b77",
        "cuda": "12.6.68",
        "tensorrt": "10.3.0.30",
        "soc": "tegra234",
        "gpu_sm": "8.7",
        "power_mode": "30W",  # by name: 2 is another mode on another module
        "power_scope": "module_rails",
        "gpu_load_percent": 39.0,
        "throttled": "yes",
        "over_current_oc1": 4,
        "over_current_alarms": 0,
        "temp_tj_c": 51.0,
    }
    assert facts["power_w"] == pytest.approx(6.906)
    assert "temp_gpu_c" not in facts
    assert set(read_rails_w(orin)) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}


def test_conditions_of_an_orin(orin: Path, tmp_path: Path) -> None:
    seen = PlatformFacts(tmp_path, orin).conditions()
    assert (seen.temperature_c, seen.throttled, seen.power_scope) == (51.0, True, "module_rails")
    assert (seen.battery_percent, seen.on_external_power, seen.network_metered) == (None, None, None)


def test_a_mode_without_a_name_is_unknown(orin: Path) -> None:
    put(orin, {"var/lib/nvpmodel/status": "pmode:0009"})
    assert "power_mode" not in read(orin)


def test_an_unlabelled_ina238_is_kept_but_not_summed(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon5"
    put(tmp_path, {f"{folder}/power1_input": 19_780_000, "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, X"})
    assert read_rails_w(tmp_path) == {"ina238_2-0044": 19.78}
    assert "power_w" not in read(tmp_path)
    put(tmp_path, {f"{folder}/power1_label": "VIN"})
    assert (read(tmp_path)["power_w"], read(tmp_path)["power_scope"]) == (19.78, "board_input")


def test_thor_rails_that_only_tegrastats_shows(tmp_path: Path) -> None:
    lines = (Path(__file__).parent / "fixtures/tegrastats.txt").read_text().splitlines()
    line = next(each for each in lines if each.startswith("thor_r38|")).split("|", 1)[1]
    root = put(tmp_path, {"etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, X"})
    put(root, {"run/fleetloop/tegrastats.log": f"old\n{line}\n{line[:40]}"})
    facts = read(root)
    assert (facts["l4t"], facts["power_w"], facts["temp_tj_c"]) == ("38.4.0", 19.78, 38.875)
    assert "gpu_load_percent" not in facts
    os.utime(root / "run/fleetloop/tegrastats.log", (time.time() - 60, time.time() - 60))
    assert "power_w" not in read(root)  # an old line says nothing about now


def test_a_battery_and_a_mobile_network(tmp_path: Path) -> None:
    header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    rows = "eth0 00000000 0101A8C0 0003 0 0 700 00000000 0 0 0\nwwan0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0\n"
    root = put(
        tmp_path,
        {
            "proc/net/route": header + rows,
            "proc/loadavg": "1.5 1 1 1/1 1",
            "sys/class/power_supply/bat0/type": "Battery",
            "sys/class/power_supply/bat0/capacity": 18,
            "sys/class/power_supply/bat0/status": "Discharging",
        },
    )
    seen = platform_of(tmp_path, root).conditions()
    assert (seen.battery_percent, seen.on_external_power, seen.network_metered) == (18.0, False, True)
    assert seen.load_1m == 1.5


def test_a_machine_that_tells_nothing_has_no_conditions(tmp_path: Path) -> None:
    seen = platform_of(tmp_path, tmp_path / "empty").conditions()
    assert seen == Conditions(disk_free_mb=seen.disk_free_mb)
    assert platform_of(tmp_path, tmp_path / "empty").meter() is None


def test_this_machine_answers(tmp_path: Path) -> None:
    facts = PlatformFacts(tmp_path)
    assert facts.now()["cpu_count"]
    assert facts.conditions().load_1m is not None


def test_a_simulated_robot_declares_its_power_and_is_marked(tmp_path: Path, orin: Path) -> None:
    said = '{"name": "amr", "watts": 90, "joules_per_decision": 0.04, "battery_percent": 71}'
    put(tmp_path, {"simulated.json": said})
    facts = PlatformFacts(tmp_path, tmp_path / "empty")
    assert (facts.now()["platform"], facts.now()["power_scope"]) == ("simulated", "simulated")
    assert (facts.conditions().battery_percent, facts.conditions().on_external_power) == (71, None)
    meter = facts.meter()
    assert isinstance(meter, SimulatedMeter)
    energy = between(meter.read(0), meter.read(100))
    assert energy is not None
    assert (energy.scope, round(energy.joules, 1)) == ("simulated", 4.0)
    assert PlatformFacts(tmp_path, orin).now()["platform"] == "jetson"  # there the sensors speak


@pytest.mark.parametrize("said", ["{", '{"watts": -1}', '{"name":"a","watts":NaN,"joules_per_decision":0}', "[]"])
def test_a_wrong_declaration_declares_nothing(tmp_path: Path, said: str) -> None:
    put(tmp_path, {"simulated.json": said})
    assert platform_of(tmp_path, tmp_path / "empty").name == "linux"


def test_watts_are_added_up_and_a_gap_ends_the_sum() -> None:
    now_s, watts = [0.0], [10.0]
    meter = PowerMeter(lambda: DevicePower(watts[0], "module_rails"), lambda: now_s[0])
    first = meter.read()
    now_s[0], watts[0] = 1.0, 20.0
    second = meter.read()
    energy = between(first, second)
    assert energy is not None
    assert (energy.joules, energy.scope) == (15.0, "module_rails")
    now_s[0] = 60.0
    assert between(first, meter.read()) is None


def test_a_sensor_that_falls_silent_ends_the_sum() -> None:
    now_s = [0.0]
    power: list[DevicePower | None] = [DevicePower(10.0, "board_input")]
    meter = PowerMeter(lambda: power[0], lambda: now_s[0])
    first = meter.read()
    now_s[0], power[0] = 0.5, None
    assert meter.read() is None
    now_s[0], power[0] = 1.0, DevicePower(10.0, "board_input")
    assert between(first, meter.read()) is None


def test_the_processors_counter_starts_again_at_its_range(tmp_path: Path) -> None:
    zone = "sys/class/powercap/intel-rapl:0"
    put(tmp_path, {f"{zone}/energy_uj": 9_000_000, f"{zone}/max_energy_range_uj": 10_000_000})
    now_s = [0.0]
    meter = PackageMeter(tmp_path, lambda: now_s[0])
    first = meter.read()
    put(tmp_path, {f"{zone}/energy_uj": 1_000_000})
    now_s[0] = 1.0
    energy = between(first, meter.read())
    assert energy is not None
    assert (energy.joules, energy.scope) == (2.0, "cpu_package")


def test_readings_of_different_scopes_are_no_energy() -> None:
    assert between(EnergyReading(1, 0, "board_input"), EnergyReading(2, 1, "module_rails")) is None
