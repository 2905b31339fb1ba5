"""What must never load, what must not go on for ever, and what a device measures before it says yes."""

import os
import pickle
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from agents.inference import Budget, Demands, DeviceQualifier, QualifierPool, Surroundings
from agents.inference.contract import NotQualifiedError
from agents.inference.engines import EngineCache, EngineKey, engine_key
from agents.inference.measure import _compare, qualify
from agents.inference.runtime import OrtRuntime, Place, runtime_for
from agents.platform.energy import PowerMeter, SimulatedMeter
from agents.platform.rails import DevicePower
from agents.protocol.v1.contract import Golden, Tolerance
from tests.agent import onnx_files as bad
from tests.agent.bundles import files
from tests.agent.onnx_files import bundle, with_model


@pytest.fixture
async def pool() -> AsyncIterator[QualifierPool]:
    running = QualifierPool(idle_s=0.2)
    yield running
    await running.close()


def refused(folder: Path, content: dict[str, bytes]) -> str:
    with pytest.raises(NotQualifiedError) as error:
        qualify(bundle(folder, content))
    return str(error.value)


@pytest.mark.parametrize("name", ["model.pt", "w.pkl", "w.joblib", "w.npy", "m.keras", "x.so", "m.plan", "m.engine"])
def test_d44_only_formats_that_hold_no_code_are_loaded(tmp_path: Path, name: str) -> None:
    assert "only .onnx" in refused(tmp_path, {**files(), name: b"x"})


def test_what_the_agent_puts_beside_a_bundle_is_no_part_of_it(tmp_path: Path) -> None:
    assert qualify(bundle(tmp_path, {**files(), ".release.json": b"{}", ".attestations.jsonl": b"{}"}))


class Marker:
    """Leaves a file behind if anybody unpickles it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("name", ["model.onnx", "golden.safetensors", "contract.json"])
@pytest.mark.parametrize("kind", ["pickle", "zip", "gzip", "pickle in zip"])
def test_d45_a_renamed_pickle_or_archive_is_refused_and_never_run(tmp_path: Path, name: str, kind: str) -> None:
    packed = pickle.dumps(Marker(tmp_path / "run"))
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", packed)
    data = {"pickle": packed, "zip": archive.getvalue(), "gzip": b"\x1f\x8b\x08" + bytes(40)}.get(kind)
    words = refused(tmp_path / "b", {**files(), name: data or archive.getvalue() + packed})
    assert name in words
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "location", ["../secret.data", "/etc/passwd", "link.data", "missing.data", "", "contract.json", "sub/../w.data"]
)
def test_d46_weights_outside_the_bundle_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.data").write_bytes(bytes(12))
    folder = bundle(tmp_path / "b", with_model(bad.external(location)))
    if location == "link.data":
        (folder / location).symlink_to(tmp_path / "secret.data")
    with pytest.raises(NotQualifiedError, match=r"no (plain )?file"):
        qualify(folder)


@pytest.mark.parametrize(("offset", "length"), [(0, 13), (8, 12), (-4, 12), (1 << 60, 12)])
def test_d46_weights_beyond_the_end_of_their_file_are_refused(tmp_path: Path, offset: int, length: int) -> None:
    content = with_model(bad.external("w.data", offset, length), **{"w.data": bytes(12)})
    assert "beyond the end" in refused(tmp_path, content)


def test_weights_in_a_file_of_the_bundle_are_loaded(tmp_path: Path) -> None:
    weights = np.full(3, 2.0, np.float32).tobytes()
    numbers = qualify(bundle(tmp_path, with_model(bad.external("w.data"), **{"w.data": weights})))
    assert numbers["max_abs_error"] == 0


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (bad.foreign(), "'evil'"),
        (bad.foreign("trt.plugins", "Plugin"), "'trt.plugins'"),
        (bad.hidden_foreign(), "'evil'"),
        (bad.own_function(), "functions or training code"),
    ],
)
def test_d47_operators_of_unknown_origin_are_refused(tmp_path: Path, model: bytes, words: str) -> None:
    assert words in refused(tmp_path, with_model(model))


async def test_d48_a_shape_bomb_ends_with_its_child(pool: QualifierPool, tmp_path: Path) -> None:
    demands = Demands(memory_mb=512, wall_s=30)
    assert len(bad.shape_bomb()) < 300
    verdict = await pool.qualify(bundle(tmp_path / "bomb", with_model(bad.shape_bomb())), Surroundings(demands))
    assert not verdict.ok
    # The next one is served as if nothing had been.
    assert (await pool.qualify(bundle(tmp_path / "good", files()), Surroundings(demands))).ok


@pytest.mark.parametrize(
    ("demands", "words"),
    [
        (Demands(cpu_s=1, wall_s=30), "1 s of CPU time"),
        (Demands(wall_s=1), "1 s of time"),
    ],
)
async def test_d48_a_loop_bomb_ends_with_its_child(
    pool: QualifierPool, tmp_path: Path, demands: Demands, words: str
) -> None:
    verdict = await pool.qualify(bundle(tmp_path, with_model(bad.loop_bomb())), Surroundings(demands))
    assert not verdict.ok
    assert words in verdict.reason


async def test_a_model_that_needs_more_memory_than_it_may_is_refused(pool: QualifierPool, tmp_path: Path) -> None:
    content = with_model(bad.shape_bomb(100_000_000))  # 400 MB, which this machine would have
    verdict = await pool.qualify(bundle(tmp_path, content), Surroundings(Demands(memory_mb=128)))
    assert not verdict.ok


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


OVERLAPPING = (
    b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}'
)


@pytest.mark.parametrize(
    "golden",
    [
        bad.safetensors_twice(),
        header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', bytes(4)),
        header(OVERLAPPING, bytes(6)),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(9)),
        header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,-4]}}', bytes(4)),
        header(b'{"a":{"dtype":"OBJ","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        header(b"[]"),
        (1 << 62).to_bytes(8, "little") + b"{}",
        b"\x02\x00",
    ],
)  # fmt: skip
def test_d49_a_header_that_lies_is_refused(tmp_path: Path, golden: bytes) -> None:
    assert "golden.safetensors" in refused(tmp_path, {**files(), "golden.safetensors": golden})


def test_d50_a_plan_from_elsewhere_is_refused_in_every_dress(tmp_path: Path) -> None:
    plan = b"ftrt" + bytes(64)
    assert "only .onnx" in refused(tmp_path / "1", {**files(), "model.plan": plan})
    assert "no ONNX file" in refused(tmp_path / "2", with_model(plan))
    assert "EPContext" in refused(tmp_path / "3", with_model(bad.foreign("com.microsoft", "EPContext")))


def the_key() -> EngineKey:
    machine = {"tensorrt": "10.3.0.30", "cuda": "12.6.68", "gpu_sm": "8.7", "model": "AGX Orin", "l4t": "36.4.3"}
    key = engine_key("ab" * 32, machine, precision="float16", shapes="x:1x3", workspace_mb=1024, dla=False)
    assert key is not None
    return key


def test_d50_a_kept_engine_is_used_only_as_it_was_built(tmp_path: Path) -> None:
    cache, key = EngineCache(tmp_path / "engines"), the_key()
    assert cache.built(key) is None
    (cache.building(key) / "model.plan").write_bytes(b"engine")
    folder = cache.keep(key)
    assert cache.built(key) == folder
    (folder / "model.plan").write_bytes(b"engini")
    assert cache.built(key) is None
    assert not folder.exists()  # it is built anew


@pytest.mark.parametrize("change", ["stray", "missing", "link", "other key", "no manifest", "broken manifest"])
def test_d50_a_kept_engine_that_was_touched_is_not_used(tmp_path: Path, change: str) -> None:
    cache, key = EngineCache(tmp_path / "engines"), the_key()
    (cache.building(key) / "model.plan").write_bytes(b"engine")
    folder = cache.keep(key)
    (tmp_path / "same").write_bytes(b"engine")
    if change == "stray":
        (folder / "more.plan").write_bytes(b"x")
    elif change == "missing":
        (folder / "model.plan").unlink()
    elif change == "link":
        (folder / "model.plan").unlink()
        (folder / "model.plan").symlink_to(tmp_path / "same")
    elif change == "other key":
        text = (folder / "built.json").read_text().replace("10.3.0.30", "10.3.0.31")
        (folder / "built.json").write_text(text)
    elif change == "no manifest":
        (folder / "built.json").unlink()
    else:
        (folder / "built.json").write_text("{")
    assert cache.built(key) is None


@pytest.mark.parametrize("part", ["tensorrt", "cuda", "gpu_sm", "model", "l4t"])
def test_every_part_of_the_machine_is_in_the_key_and_none_may_be_unknown(part: str) -> None:
    machine = {"tensorrt": "1", "cuda": "2", "gpu_sm": "3", "model": "4", "l4t": "5"}

    def digest(
        said: dict[str, str], onnx: str = "0", precision: str = "float16", shapes: str = "a", **more: int
    ) -> str:
        workspace_mb, dla = more.get("workspace_mb", 1), bool(more.get("dla"))
        key = engine_key(onnx, said, precision=precision, shapes=shapes, workspace_mb=workspace_mb, dla=dla)
        return key.digest() if key else "unknown"

    digests = [
        digest(machine),
        digest({**machine, part: "x"}),
        digest(machine, onnx="1"),
        digest(machine, precision="int8"),
        digest(machine, shapes="b"),
        digest(machine, workspace_mb=2),
        digest(machine, dla=1),
    ]
    assert len(set(digests)) == len(digests)
    assert digest({name: value for name, value in machine.items() if name != part}) == "unknown"


def test_engines_are_few(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    for number in range(8):
        key = engine_key(f"{number}", dict.fromkeys(("tensorrt", "cuda", "gpu_sm", "model", "l4t"), "1"),
                         precision="int8", shapes="", workspace_mb=1, dla=False)  # fmt: skip
        assert key is not None
        (cache.building(key) / "p").write_bytes(b"x")
        cache.keep(key)
    assert len(list((tmp_path / "engines").iterdir())) <= 4


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "z", "dtype": "float32", "shape": ["N", 3], "unit": "1"}, "not those of the contract"),
        ({"name": "x", "dtype": "float16", "shape": ["N", 3], "unit": "1"}, "the contract says float16"),
        ({"name": "x", "dtype": "float32", "shape": ["N", 4], "unit": "1"}, "the contract says"),
        ({"name": "x", "dtype": "float32", "shape": ["N"], "unit": "1"}, "the contract says"),
    ],
)
def test_d51_a_signature_that_is_not_the_contracts_is_refused(
    tmp_path: Path, spec: dict[str, object], words: str
) -> None:
    content = files(contract={"inputs": [spec]})
    shape = [2 if size == "N" else size for size in spec["shape"]]  # type: ignore[attr-defined] # a list above
    inputs = np.ones(shape, dtype=str(spec["dtype"]))
    content["golden.safetensors"] = save({f"input.{spec['name']}": inputs, "output.y": np.ones((2, 3), np.float32)})
    assert words in refused(tmp_path, content)


def test_tolerance_is_by_dtype() -> None:
    golden = Golden(rtol=0.0, atol=1e-3, by_dtype={"int8": Tolerance(rtol=0, atol=0.5)})
    assert golden.tolerance("int64") == Tolerance(rtol=0, atol=0)
    assert golden.tolerance("bool", "int8") == Tolerance(rtol=0, atol=0)
    assert golden.tolerance("float32") == Tolerance(rtol=0, atol=1e-3)
    assert golden.tolerance("float16") == Tolerance(rtol=1e-2, atol=1e-3)
    assert golden.tolerance("float32", "float16") == Tolerance(rtol=1e-2, atol=1e-3)
    assert golden.tolerance("float32", "int8") == Tolerance(rtol=0, atol=0.5)


def test_whole_numbers_are_exact_whatever_the_contract_says() -> None:
    wanted = {"y": np.array([[3]], dtype=np.int64)}
    with pytest.raises(NotQualifiedError, match="differs"):
        _compare({"y": np.array([[4]], dtype=np.int64)}, wanted, Golden(atol=10.0), "float32")


def test_a_silent_fall_back_to_the_processor_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A provider that is really in the library and takes no operator: it is named first, and the processor computes.
    azure = OrtRuntime("AzureExecutionProvider")
    monkeypatch.setattr("agents.inference.measure.runtime_for", lambda _demands, _place: azure)
    with pytest.raises(NotQualifiedError, match="1 operators fell back"):
        qualify(bundle(tmp_path, files()))
    numbers = qualify(tmp_path, Demands(fallback_nodes_max=1))
    assert numbers["nodes_elsewhere"] == 1


@pytest.mark.parametrize(("runtime", "words"), [("cuda", "CUDAExecution"), ("tensorrt", "TensorrtExecution")])
async def test_a_runtime_that_is_not_here_is_no_other_one(
    pool: QualifierPool, tmp_path: Path, runtime: str, words: str
) -> None:
    demands = Demands.model_validate({"runtime": runtime, "memory_mb": 4096})
    verdict = await pool.qualify(bundle(tmp_path, files()), Surroundings(demands))
    assert not verdict.ok
    assert words in verdict.reason


def test_auto_is_the_fastest_that_is_here() -> None:
    assert runtime_for(Demands(runtime="auto"), Place({})).name == "CPUExecutionProvider"


async def test_the_stricter_budget_wins(pool: QualifierPool, tmp_path: Path) -> None:
    folder = bundle(tmp_path, files(contract={"budget": {"latency_p99_ms": 1e6, "latency_p50_ms": 1e6}}))
    of_class = Surroundings(Demands(budget=Budget(latency_p99_ms=1e-6)))
    verdict = await pool.qualify(folder, of_class)
    assert not verdict.ok
    assert "latency_p99_ms" in verdict.reason
    assert verdict.numbers["latency_p99_ms"] > 1e-6  # what was measured goes up with the refusal
    assert (await pool.qualify(folder)).ok
    assert Budget(memory_mb=5, latency_p50_ms=1).stricter(Budget(memory_mb=3)) == Budget(memory_mb=3, latency_p50_ms=1)


async def test_a_budget_in_joules_needs_a_meter(pool: QualifierPool, tmp_path: Path) -> None:
    folder = bundle(tmp_path, files(contract={"budget": {"joules_per_decision": 0.05}}))
    verdict = await pool.qualify(folder)
    assert not verdict.ok
    assert "nothing on this device measures it" in verdict.reason
    assert "joules_per_decision" not in verdict.numbers  # unknown, not zero


@pytest.mark.parametrize(("declared_j", "ok"), [(0.04, True), (0.06, False)])
async def test_joules_of_a_simulated_robot_are_judged_and_marked(
    pool: QualifierPool, tmp_path: Path, declared_j: float, ok: bool
) -> None:
    folder = bundle(tmp_path, files(contract={"budget": {"joules_per_decision": 0.05}}))
    around = Surroundings(Demands(soak_s=0.3, rest_s=0.2), meter=lambda: SimulatedMeter(90.0, declared_j))
    verdict = await pool.qualify(folder, around)
    assert verdict.ok is ok
    assert verdict.numbers["joules_per_decision"] == pytest.approx(declared_j, rel=1e-3)
    assert verdict.numbers["energy_scope_simulated"] == 1.0


async def test_joules_are_what_decisions_add_to_the_machine_at_rest(pool: QualifierPool, tmp_path: Path) -> None:
    heard: set[tuple[str, str] | None] = set()

    def power() -> DevicePower:
        heard.add(device.doing())
        return DevicePower(15.0 if device.stage == "soak" else 10.0, "module_rails")

    demands = Demands(soak_s=1.0, rate_hz=100, rest_s=0.5)
    device = DeviceQualifier(pool, Surroundings(demands, meter=lambda: PowerMeter(power)))
    verdict = await device.qualify(bundle(tmp_path, files()))
    assert verdict.ok
    assert heard >= {("rest", ""), ("soak", ""), ("soaked", "")}
    assert device.doing() is None
    # 5 W more for a second, a hundred decisions; the edges of the soak are trapezoids of a tenth of a second.
    assert verdict.numbers["joules_per_decision"] == pytest.approx(0.05, rel=0.25)
    assert verdict.numbers["energy_scope_module_rails"] == 1.0


async def test_a_meter_that_falls_silent_leaves_the_joules_unknown(pool: QualifierPool, tmp_path: Path) -> None:
    reads = [0]

    def power() -> DevicePower | None:
        reads[0] += 1
        return DevicePower(10.0, "board_input") if reads[0] < 4 else None

    verdict = await pool.qualify(bundle(tmp_path, files()), Surroundings(Demands(), lambda: PowerMeter(power)))
    assert verdict.ok
    assert "joules_per_decision" not in verdict.numbers


async def test_decisions_are_made_at_the_rate_for_as_long_as_asked(pool: QualifierPool, tmp_path: Path) -> None:
    verdict = await pool.qualify(bundle(tmp_path, files()), Surroundings(Demands(soak_s=1.0, rate_hz=50)))
    assert verdict.numbers["decisions"] == 50
    assert 0.9 < verdict.numbers["soak_s"] < 2.0
    assert verdict.numbers["memory_mb"] > 0


def test_more_decisions_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1000000 decisions"):
        Demands(soak_s=3600, rate_hz=1000)
