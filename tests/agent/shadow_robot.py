"""A robot application for tests: its own process, the SDK, a real ONNX session; it decides at a steady pace.

    python -m tests.agent.shadow_robot STATE_DIR BUNDLE CONTENT_DIGEST [--slower-ms MS]

With --slower-ms it says that its decisions take that much longer, from --slower-after-s after its first sample on.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

from agents.sdk import Robot


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("state", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("digest")
    parser.add_argument("--slower-ms", type=float, default=0.0)
    parser.add_argument("--slower-after-s", type=float, default=1e9)
    asked = parser.parse_args()
    session = ort.InferenceSession(str(asked.bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    tap = Robot(asked.state).shadow_tap(max_hz=100.0)
    source, first_s = np.random.default_rng(7), 0.0
    print("ready", flush=True)
    while True:
        x = source.uniform(-1, 1, (1, 3)).astype(np.float32)
        start = time.perf_counter()
        y = session.run(["y"], {"x": x})[0]
        latency_ms = (time.perf_counter() - start) * 1e3
        # A steady word about latency: what a busy test machine does to it is not what is tested.
        slow = first_s > 0 and time.monotonic() - first_s > asked.slower_after_s
        said_ms = min(latency_ms, 1.0) * 0.01 + 1.0 + (asked.slower_ms if slow else 0.0)
        if tap.sample(asked.digest, {"x": x}, {"y": y}, said_ms):
            first_s = first_s or time.monotonic()
        time.sleep(0.005)


if __name__ == "__main__":
    main()
