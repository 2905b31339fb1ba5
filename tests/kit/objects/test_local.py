"""What only the directory adapter promises."""

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.kit.objects import (
    BadUrlError,
    InvalidDigestError,
    InvalidNameError,
    LocalStore,
    check_digest,
    check_name,
    object_key,
)

SECRET = b"0123456789abcdef"
DIGEST = "ab" * 32
NOW = 1_000.0


def store(root: Path, secret: bytes = SECRET) -> LocalStore:
    return LocalStore(root, secret, base_url="http://here", clock=lambda: NOW)


def query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


async def test_a_url_says_what_it_allows(tmp_path: Path) -> None:
    url = await store(tmp_path).upload_url(DIGEST, 12, 60)
    assert url.startswith(f"http://here/objects/v1/put/{DIGEST}?expires=1060&size=12&sig=")
    grant = store(tmp_path).verify_url("put", DIGEST, query(url), NOW + 59)
    assert (grant.op, grant.sha256, grant.size) == ("put", DIGEST, 12)


async def test_a_url_for_one_thing_is_for_nothing_else(tmp_path: Path) -> None:
    one = store(tmp_path)
    good = query(await one.upload_url(DIGEST, 12, 60))
    bad: list[tuple[str, str, dict[str, str], float]] = [
        ("get", DIGEST, good, NOW),
        ("put", "cd" * 32, good, NOW),
        ("put", DIGEST, good | {"size": "13"}, NOW),
        ("put", DIGEST, good | {"expires": "99999"}, NOW),
        ("put", DIGEST, {**good, "sig": "0" * 64}, NOW),
        ("put", DIGEST, {**good, "sig": "\ud800"}, NOW),
        ("put", DIGEST, {}, NOW),
        ("put", DIGEST, good, NOW + 60),
    ]
    for op, digest, limits, now in bad:
        with pytest.raises(BadUrlError):
            one.verify_url(op, digest, limits, now)
    with pytest.raises(BadUrlError):
        store(tmp_path, b"another secret!!").verify_url("put", DIGEST, good, NOW)
    with pytest.raises(InvalidDigestError):
        one.verify_url("put", "../../etc/passwd", good, NOW)


def test_a_weak_secret_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        LocalStore(tmp_path, b"short")


@given(st.text(max_size=80))
def test_no_text_leads_out_of_the_store(text: str) -> None:
    root = Path("/store")
    try:
        key = object_key(text)
    except InvalidDigestError:
        return
    assert check_digest(text) == text
    assert (root / key).resolve().is_relative_to(root)


@given(st.text(alphabet="a./\\-_%\0A", max_size=30))
def test_no_name_has_a_step_up(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidNameError:
        return
    assert not {"", ".", ".."} & set(name.split("/"))
    assert "\\" not in name
    assert "%" not in name


async def test_another_process_sees_the_same(tmp_path: Path) -> None:
    one, two = store(tmp_path), store(tmp_path)
    await one.start()
    await two.start()
    stored = await one.put_bytes(b"x")
    await one.publish("n", b"1")
    assert await two.read(stored.sha256) == b"x"
    assert not await two.publish("n", b"2")
