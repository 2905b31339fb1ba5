"""What is read of strangers' traceparents, and that without a collector nothing happens."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.link.client import new_traceparent
from control_plane.kit import tracing
from control_plane.kit.tracing import Parent, read_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_is_read() -> None:
    assert read_traceparent(f"00-{TRACE}-{SPAN}-01") == Parent(TRACE, SPAN, is_sampled=True)
    assert read_traceparent(f"00-{TRACE}-{SPAN}-00".encode()) == Parent(TRACE, SPAN, is_sampled=False)
    assert read_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes-later") == Parent(TRACE, SPAN, is_sampled=True)


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        b"",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 200}",
        "x" * 1_000_000,
        b"\xff" * 55,
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_a_hostile_traceparent_is_none(said: str | bytes | None) -> None:
    assert read_traceparent(said) is None


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_no_traceparent_is_worse_than_none(said: str | bytes) -> None:
    read_traceparent(said)


def test_an_agents_traceparent_is_one_and_new_each_time() -> None:
    made = [new_traceparent(sampled=bool(number % 2)) for number in range(10)]
    read = [read_traceparent(each) for each in made]
    assert [each is not None and each.is_sampled for each in read] == [False, True] * 5
    assert len({each.trace_id for each in read if each}) == 10


def test_without_a_collector_nothing_is_traced_or_imported() -> None:
    code = (
        "import sys; from control_plane.kit import tracing; import control_plane.main\n"
        "assert not tracing.start('x', {}) and not tracing.start('x', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://h',"
        " 'OTEL_SDK_DISABLED': 'true'})\n"
        "with tracing.span('a', parent='00-' + 'a' * 32 + '-' + 'b' * 16 + '-01') as made:\n"
        "    assert made is None and tracing.header() is None and tracing.headers() == {}\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not tracing.is_on()
