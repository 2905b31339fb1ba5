"""What becomes a version and a release, and what never does."""

import asyncio
import hashlib
import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save

from agents.protocol.v1 import ReleaseManifest, digest_of
from control_plane.kit.roles import Role
from tests.support.bundle import MODEL, bundle, golden, graph
from tests.support.device import Device
from tests.support.registry import put_model, register, release, upload, upload_all
from tests.support.rows import count
from tests.support.server import Server


async def ask(server: Server, files: dict[str, bytes]) -> tuple[int, dict[str, Any]]:
    body = {"files": await upload_all(server, files)}
    answer = await server.call("POST", "/models/times/versions", json=body)
    return answer.status_code, answer.json()


def external() -> bytes:
    model = graph()
    model.graph.initializer[0].ClearField("float_data")
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    place = model.graph.initializer[0].external_data.add()
    place.key, place.value = "location", "pyproject.toml"
    return model.SerializeToString()


def external_in_a_node() -> bytes:
    """Keep the weight outside the bundle, in a constant inside the branch of an If."""
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [2.0])
    value.ClearField("float_data")
    value.data_location = TensorProto.EXTERNAL
    place = value.external_data.add()
    place.key, place.value = "location", "pyproject.toml"
    made = [helper.make_tensor_value_info("b", TensorProto.FLOAT, [1])]
    branch = helper.make_graph([helper.make_node("Constant", [], ["b"], value=value)], "branch", [], made)
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    model = graph()
    del model.graph.node[:]
    model.graph.node.extend(
        [
            helper.make_node("Constant", [], ["yes"], value=yes),
            helper.make_node("If", ["yes"], ["k2"], then_branch=branch, else_branch=branch),
            helper.make_node("Mul", ["x", "k2"], ["y"]),
        ]
    )
    return model.SerializeToString()


def contract(**changes: Any) -> bytes:
    return json.dumps({"name": "times", **MODEL["contract"], **changes}).encode()


def nan_golden() -> bytes:
    x = np.full((2, 3), np.nan, np.float32)
    return save({"input.x": x, "output.y": x})


REFUSED: dict[str, dict[str, Any]] = {
    "another input name": {"model.onnx": graph(name="z").SerializeToString()},
    "another dtype": {"model.onnx": graph(kind=TensorProto.DOUBLE).SerializeToString()},
    "another shape": {"model.onnx": graph(width=4).SerializeToString()},
    "a pickle": {"model.onnx": b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00."},
    "a zip": {"golden.safetensors": b"PK\x03\x04" + b"\0" * 100},
    "an old pickle": {"golden.safetensors": b"(lp0\n."},
    "not ONNX": {"model.onnx": b"hello"},
    "empty": {"model.onnx": b""},
    "external data": {"model.onnx": external()},
    "external data in a node": {"model.onnx": external_in_a_node()},
    "wrong golden vectors": {"golden.safetensors": golden(3.0)},
    "NaN golden": {"golden.safetensors": nan_golden()},
    "golden of no rows": {"golden.safetensors": save({"input.x": np.zeros((0, 3), np.float32)})},
    "golden without axes": {"golden.safetensors": golden(**{"input.x": np.array(1.0, np.float32)})},
    "golden of another dtype": {"golden.safetensors": golden(**{"input.x": np.zeros((4, 3), np.float64)})},
    "golden without outputs": {"golden.safetensors": save({"input.x": np.zeros((4, 3), np.float32)})},
    "another contract": {"contract.json": contract(golden={"rtol": 9.0, "atol": 9.0})},
    "a contract that devices cannot read": {"contract.json": json.dumps(MODEL["contract"]).encode()},
    "a contract with a budget of nothing": {"contract.json": contract(budget={"latency_p99_ms": 0})},
    "a contract that is a list": {"contract.json": b"[]"},
    "a contract with a key twice": {"contract.json": b'{"inputs": [], "inputs": []}'},
}


async def test_a_bundle_that_is_not_what_its_contract_says_is_refused(server: Server) -> None:
    await put_model(server)
    for name, change in REFUSED.items():
        status, answer = await ask(server, bundle() | change)
        assert (status, answer["code"]) == (422, "bundle_refused"), (name, answer)
    assert (await count(server, "registry_version"), await count(server, "registry_artifact")) == (0, 0)


async def test_a_bundle_is_exactly_three_files_that_are_there(server: Server) -> None:
    await put_model(server)
    files = bundle()
    assert (await ask(server, files | {"code.py": b"import os"}))[1]["code"] == "bundle_refused"
    assert (await ask(server, {"model.onnx": files["model.onnx"]}))[1]["code"] == "bundle_refused"
    refs = await upload_all(server, files)
    for change in ({"sha256": "0" * 64}, {"size_bytes": 1}):
        body = {"files": refs | {"model.onnx": refs["model.onnx"] | change}}
        answer = await server.call("POST", "/models/times/versions", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "artifact_missing")
    assert (await server.call("POST", "/models/nobody/versions", json={"files": refs})).status_code == 404


async def test_the_same_bundle_is_the_same_version(server: Server) -> None:
    await put_model(server)
    files = await upload_all(server, bundle())
    bodies = [{"files": files, "label": str(number)} for number in range(4)]
    made = await asyncio.gather(*(server.ok("POST", "/models/times/versions", json=body) for body in bodies))
    assert {item["version"] for item in made} == {1}
    assert made[0]["content_digest"] == digest_of(made[0]["content"])
    assert made[0]["card"]["parameters"] == 1
    other = await register(server, 3.0)
    assert (other["version"], await count(server, "registry_version")) == (2, 2)


async def test_a_contract_with_versions_stays(server: Server) -> None:
    await register(server)
    wider = json.loads(json.dumps(MODEL["contract"]).replace("3]", "4]"))
    answer = await server.call("PUT", "/models/times", json=MODEL | {"contract": wider})
    assert (answer.status_code, answer.json()["code"]) == (409, "contract_fixed")
    await put_model(server, title="Times, renamed")
    assert (await server.ok("GET", "/models/times"))["title"] == "Times, renamed"


async def test_counters_grow_and_digests_name_the_bytes(server: Server, device: Device) -> None:
    version = await register(server)
    made = await asyncio.gather(*(release(server, version["content_digest"]) for _ in range(5)))
    assert sorted(item["counter"] for item in made) == [1, 2, 3, 4, 5]
    assert len({item["digest"] for item in made}) == 5
    for item in made:
        answer = await device.send("GET", f"blobs/sha256/{item['digest']}")
        assert answer.status_code == 200
        assert hashlib.sha256(answer.content).hexdigest() == item["digest"]
        assert len(answer.content) == item["manifest_bytes"]
        manifest = ReleaseManifest.model_validate_json(answer.content)
        assert (manifest.counter, manifest.content_digest) == (item["counter"], version["content_digest"])
    body = {"content_digest": "e" * 64, "device_classes": ["cart"]}
    assert (await server.call("POST", "/releases", json=body)).status_code == 404


async def test_a_device_fetches_whole_files_and_ranges(server: Server, device: Device) -> None:
    version = await register(server)
    files = bundle()
    for file in version["content"]["files"]:
        whole = await device.send("GET", f"blobs/sha256/{file['sha256']}")
        assert (whole.status_code, whole.content) == (200, files[file["path"]])
        assert whole.headers["etag"] == f'"{file["sha256"]}"'
    data, path = files["model.onnx"], f"blobs/sha256/{hashlib.sha256(files['model.onnx']).hexdigest()}"
    size = len(data)
    ranges = {
        "bytes=0-9": (206, data[:10], f"bytes 0-9/{size}"),
        "bytes=10-": (206, data[10:], f"bytes 10-{size - 1}/{size}"),
        f"bytes={size - 1}-": (206, data[-1:], f"bytes {size - 1}-{size - 1}/{size}"),
        "bytes=0-99999999": (206, data, f"bytes 0-{size - 1}/{size}"),
        f"bytes={size}-": (416, b"", f"bytes */{size}"),
        "bytes=5-2": (416, b"", f"bytes */{size}"),
        "bytes=0-1,4-5": (200, data, None),
        "lines=0-1": (200, data, None),
    }
    for asked, (status, content, said) in ranges.items():
        answer = await device.send("GET", path, Range=asked)
        assert (answer.status_code, answer.content) == (status, content), asked
        assert answer.headers.get("content-range") == said, asked


async def test_a_device_fetches_nothing_else(server: Server, device: Device) -> None:
    version = await register(server)
    secret = await upload(server, b"a training set")
    for sha256 in (secret["sha256"], "0" * 64, version["content_digest"]):
        answer = await device.send("GET", f"blobs/sha256/{sha256}")
        assert answer.status_code == 404, answer.text
        assert b"training" not in answer.content
    assert (await device.send("GET", "blobs/sha256/..%2f..%2fkeys")).status_code in (404, 422)
    assert (await device.send("GET", f"blobs/sha256/{'A' * 64}")).status_code == 422


async def test_the_loop_goes_on_while_a_bundle_is_checked(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking runs a graph; other requests must not wait for it."""
    await put_model(server)
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real = onnx.load_model_from_string

    def slow(data: bytes) -> onnx.ModelProto:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        return real(data)

    monkeypatch.setattr(onnx, "load_model_from_string", slow)
    asked = asyncio.create_task(ask(server, bundle()))
    await asyncio.wait_for(begun.wait(), 20)
    assert (await server.http.get("/healthz")).status_code == 200
    go_on.set()
    assert (await asked)[0] == 201


async def test_who_may_register(server: Server) -> None:
    await put_model(server)
    body = {"files": await upload_all(server, bundle())}
    for role, status in ((Role.VIEWER, 403), (Role.OPERATOR, 403), (Role.APPROVER, 403), (Role.PIPELINE, 201)):
        assert (await server.call("POST", "/models/times/versions", role, json=body)).status_code == status
