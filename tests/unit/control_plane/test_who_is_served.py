"""Which ports belong to a process for people, and which to one for devices."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from control_plane.kit.errors import Invalid
from control_plane.kit.settings import Settings
from control_plane.main import Serve, create_app, listeners_of

NO_DEVICES = {
    "metrics_port": None,
    "device_port": None,
    "device_host": "127.0.0.1",
    "proxied_socket": None,
    "proxied_port": None,
}


def ports(tmp_path: Path, serve: Serve, **given: Any) -> list[tuple[int, str | None]]:
    app = create_app(Settings(home=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/none"))
    arguments = Namespace(serve=serve, host="127.0.0.1", port=8080, metrics_host="127.0.0.1", **(NO_DEVICES | given))
    return [(listener.config.port, listener.config.uds) for listener in listeners_of(app, arguments)]


def test_people_and_devices_have_processes_of_their_own(tmp_path: Path) -> None:
    socket = str(tmp_path / "devices.sock")
    assert ports(tmp_path, Serve.PEOPLE) == [(8080, None)]
    assert [uds for _, uds in ports(tmp_path, Serve.DEVICES, proxied_socket=Path(socket))] == [socket]
    assert ports(tmp_path, Serve.PEOPLE, metrics_port=9) == [(8080, None), (9, None)]
    assert [uds for _, uds in ports(tmp_path, Serve.BOTH, proxied_socket=Path(socket))] == [None, socket]


def test_a_process_for_people_has_no_port_for_devices(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="leave out"):
        ports(tmp_path, Serve.PEOPLE, proxied_socket=tmp_path / "devices.sock")


def test_a_process_for_devices_needs_a_port_for_them(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="needs --device-port"):
        ports(tmp_path, Serve.DEVICES)
