"""What span of time a device's page begins with."""

from datetime import UTC, datetime, timedelta

from control_plane.web.measured import SPANS, first_span

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_young_device_is_shown_closely() -> None:
    assert first_span(NOW - timedelta(minutes=5), NOW) == 1
    assert first_span(NOW - timedelta(days=5), NOW) == 24
    assert {1, 24} <= set(SPANS)
