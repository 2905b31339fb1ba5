"""Speaks the options and file formats of TensorRT's trtexec, and computes with ONNX Runtime; tests put it on the PATH.

A plan it "builds" is the ONNX file behind a mark; FLEETLOOP_TEST_BUILD_S makes the build take that long.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

MARK = b"stand-in plan\n"
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def main() -> int:
    said = dict(each.removeprefix("--").split("=", 1) for each in sys.argv[1:] if "=" in each)
    if "onnx" in said:
        time.sleep(float(os.environ.get("FLEETLOOP_TEST_BUILD_S", "0")))
        if "shapes" not in said or said["memPoolSize"] != "workspace:1024M":
            print("unexpected options", sys.argv)
            return 1
        Path(said["saveEngine"]).write_bytes(MARK + Path(said["onnx"]).read_bytes())
        return 0
    session = ort.InferenceSession(Path(said["loadEngine"]).read_bytes().removeprefix(MARK))
    files = dict(each.split(":", 1) for each in said["loadInputs"].split(","))
    inputs = {
        each.name: np.fromfile(files[each.name], dtype=TYPES[each.type]).reshape([1, *each.shape[1:]])
        for each in session.get_inputs()
    }
    times: list[dict[str, float]] = []
    until_s = time.monotonic() + float(said["duration"])
    while not times or time.monotonic() < until_s:
        start = time.perf_counter()
        outputs = session.run(None, inputs)
        times.append({"latencyMs": (time.perf_counter() - start) * 1e3})
        time.sleep(0.001)
    exported = [
        {"name": each.name, "dimensions": "x".join(map(str, value.shape)), "values": value.ravel().tolist()}
        for each, value in zip(session.get_outputs(), outputs, strict=True)
    ]
    Path(said["exportOutput"]).write_text(json.dumps(exported))
    Path(said["exportTimes"]).write_text(json.dumps(times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
