"""Where webhooks may go and when they are tried again."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.webhooks.domain import (
    LONGEST_DELAY_S,
    MAX_ATTEMPTS,
    MOST_FAILURES,
    Answer,
    Outside,
    Rules,
    State,
    choose,
    delay_s,
    may_reach,
    read_url,
    weigh,
)

INSIDE = """
0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255
192.0.0.1 192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1
255.255.255.255 168.63.129.16
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:93.184.215.14 ::ffff:0:7f00:1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::5db8:d70e 64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::
2002:a9fe:a9fe:: fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ff0e::1 4000::1
"""
OUTSIDE = ("93.184.215.14", "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001:800::200e")
EVERYTHING = Rules.read("0.0.0.0/0,::/0", http_loopback=False)


@pytest.mark.parametrize("address", INSIDE.split())
def test_the_inside_is_not_reached(address: str) -> None:
    assert not may_reach(ip_address(address), Rules())


@pytest.mark.parametrize("address", OUTSIDE)
def test_the_public_internet_is(address: str) -> None:
    assert may_reach(ip_address(address), Rules())


@pytest.mark.parametrize("address", ["169.254.169.254", "168.63.129.16", "fd00:ec2::254", "fe80::1", "224.0.0.1", "::"])
def test_no_setting_opens_where_credentials_are(address: str) -> None:
    assert not may_reach(ip_address(address), EVERYTHING)


def test_a_setting_opens_a_network() -> None:
    rules = Rules.read("10.1.0.0/16, fd12::/32", http_loopback=False)
    assert may_reach(ip_address("10.1.2.3"), rules)
    assert may_reach(ip_address("fd12::5"), rules)
    assert not may_reach(ip_address("10.2.0.1"), rules)
    with pytest.raises(ValueError, match="not"):
        Rules.read("10.1.0.0/99", http_loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://hook.test/",
        "ftp://hook.test/",
        "file:///etc/passwd",
        "https://user@hook.test/",
        "https://user:word@hook.test/",
        "https://hook.test/#x",
        "https:///path",
        "https://",
        "https://hook.test:0/",
        "https://hook.test:99999/",
        "https://[::1/",
        "https://hook.test/\r\nX-Evil: 1",
        "https://ho ok.test/",
        "https://hook.test\\@evil.test/",
        "https://h\u00f6ok.test/",
        "https://hook.test/" + "a" * 600,
    ],
)
def test_what_is_no_url_here(url: str) -> None:
    with pytest.raises(Outside):
        read_url(url, Rules())


def test_what_a_url_says() -> None:
    target = read_url("https://Hook.test/a?b=c", Rules())
    assert (target.host, target.port, target.path, target.authority) == ("hook.test", 443, "/a?b=c", "hook.test")
    target = read_url("https://[2606:4700::1]:8443", Rules())
    assert (target.path, target.authority) == ("/", "[2606:4700::1]:8443")
    assert choose(target, ["2606:4700::1"], Rules()) == "2606:4700::1"


def test_plain_http_goes_to_this_machine_only() -> None:
    rules = Rules(http_loopback=True)
    target = read_url("http://127.0.0.1:9/", rules)
    assert choose(target, ["127.0.0.1"], rules) == "127.0.0.1"
    for address in ("93.184.215.14", "10.0.0.1"):
        with pytest.raises(Outside):
            choose(target, [address], rules)
    with pytest.raises(Outside):
        choose(read_url("https://localhost/", rules), ["127.0.0.1"], rules)


@given(attempts=st.integers(1, 100), jitter=st.floats(-1, 2))
def test_waiting_is_bounded_and_never_shrinks(attempts: int, jitter: float) -> None:
    assert 5 <= delay_s(attempts, jitter) <= LONGEST_DELAY_S
    assert delay_s(attempts + 1, 0) >= delay_s(attempts, 0)


def test_attempts_end_and_so_do_webhooks_that_nobody_answers_for() -> None:
    lost = Answer(None, "refused", 3)
    assert weigh(lost, 1, 0, 0.5).state is State.WAITING
    assert weigh(lost, MAX_ATTEMPTS, 0, 0.5).state is State.FAILED
    assert weigh(lost, 1, MOST_FAILURES - 2, 0.5).disable is None
    assert "refused" in (weigh(lost, 1, MOST_FAILURES - 1, 0.5).disable or "")
    assert weigh(Answer(204, "", 3), 3, 20, 0.5).failures == 0
    assert weigh(Answer(301, "", 3), 1, 0, 0.5).state is State.WAITING
