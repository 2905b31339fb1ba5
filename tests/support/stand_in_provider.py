"""A stand-in for the AWS provider that knows its schema and nothing else, for `terraform validate` and mocked tests.

Terraform starts it as a plug-in and speaks gRPC with it (protocol 6). It tells the schema of tests/fixtures/terraform
and finds every value right: what only the real provider checks (values of enumerations, which arguments exclude each
other) stays unchecked. It plans and makes nothing: tests mock that, and whatever is asked for beyond is refused.

The messages that matter are few, so they are written here byte by byte, not generated from Terraform's definitions.
"""

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

COOKIE: Final = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
"""What Terraform puts into TF_PLUGIN_MAGIC_COOKIE, so that nobody starts a plug-in by mistake."""
SCHEMA: Final = Path(__file__).parents[1] / "fixtures" / "terraform" / "aws.json"
NESTING: Final = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}
SERVING: Final = b"\x08\x01"


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def text(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def attribute(name: str, about: dict[str, Any]) -> bytes:
    flags = ((4, "required"), (5, "optional"), (6, "computed"))
    return text(1, name) + text(2, json.dumps(about["type"])) + b"".join(number(f, about.get(n, 0)) for f, n in flags)


def block(about: dict[str, Any]) -> bytes:
    found = b"".join(text(2, attribute(name, each)) for name, each in about["attributes"].items())
    for name, each in about["block_types"].items():
        nested = text(1, name) + text(2, block(each["block"])) + number(3, NESTING[each["nesting_mode"]])
        found += text(3, nested + number(4, each.get("min_items", 0)) + number(5, each.get("max_items", 0)))
    return found


def schema(about: dict[str, Any]) -> bytes:
    return number(1, about["version"]) + text(2, block(about["block"]))


def provider_schema(about: dict[str, Any]) -> bytes:
    """Return GetProviderSchema's answer."""
    found = text(1, schema(about["provider"]))
    for field, kind in ((2, "resource_schemas"), (3, "data_source_schemas")):
        for name, each in about[kind].items():
            found += text(field, text(1, name) + text(2, schema(each)))
    return found


def serve() -> None:
    if os.environ.get("TF_PLUGIN_MAGIC_COOKIE") != COOKIE:
        sys.exit("this is a plug-in of Terraform's; tests/contract/test_terraform.py starts it")
    ended = threading.Event()
    answers: dict[str, Callable[[], bytes]] = {
        "/tfplugin6.Provider/GetProviderSchema": lambda: provider_schema(json.loads(SCHEMA.read_text())),
        "/tfplugin6.Provider/ValidateProviderConfig": bytes,
        "/tfplugin6.Provider/ValidateResourceConfig": bytes,
        "/tfplugin6.Provider/ValidateDataResourceConfig": bytes,
        "/tfplugin6.Provider/StopProvider": bytes,
        "/grpc.health.v1.Health/Check": lambda: SERVING,
        "/plugin.GRPCController/Shutdown": lambda: (ended.set(), b"")[1],
    }

    class Calls(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            answer = answers.get(details.method)
            return answer and grpc.unary_unary_rpc_method_handler(lambda _, __: answer())

    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as folder:
        server = grpc.server(ThreadPoolExecutor(4), handlers=(Calls(),))
        server.add_insecure_port(f"unix:{folder}/plugin.sock")
        server.start()
        print(f"1|6|unix|{folder}/plugin.sock|grpc|", flush=True)
        ended.wait(timeout=600)
        server.stop(1).wait()


if __name__ == "__main__":
    serve()
