"""A bundle is the same twice, installs where no registry is, and is refused once anything in it was changed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "infra" / "bundle" / "bundle.py"
NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_INDEX": "", "PIP_RETRIES": "0"}
"""A port that nobody listens on: whoever asked a registry would fail."""
OFFLINE = ("new connection", "name resolution", "ConnectTimeout", "ProxyError")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("bundle"),
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not here: no bundle can be signed"),
]


def build(to: Path, key: Path, umask: int, **environment: str) -> Path:
    done = subprocess.run(
        [sys.executable, BUILD, "--only", "agent", "--to", to, "--sign-key", key],
        capture_output=True, text=True, timeout=280, check=False, umask=umask, env=os.environ | environment,
    )  # fmt: skip
    if done.returncode and any(words in done.stderr for words in OFFLINE):
        pytest.skip("no package registry can be reached, so no bundle can be made here")
    assert done.returncode == 0, done.stderr
    (found,) = to.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "release"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def signers(key: Path) -> Path:
    path = key.with_name("allowed_signers")
    path.write_text(f"release@example.com {key.with_suffix('.pub').read_text()}")
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Path:
    return build(tmp_path_factory.mktemp("first"), key, 0o022)


@pytest.fixture
def tree(bundle: Path, tmp_path: Path) -> Path:
    with tarfile.open(bundle) as archive:
        archive.extractall(tmp_path, filter="data")
    (found,) = tmp_path.glob("fleetloop-*")
    return found


def install(tree: Path, to: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", tree / "install.sh", "--part", "agent", "--to", to, "--python", sys.executable, *arguments],
        capture_output=True, text=True, timeout=240, check=False, env=os.environ | NO_INDEX, cwd=tree.parent,
    )  # fmt: skip


def test_the_agent_is_installed_where_no_registry_is(tree: Path, tmp_path: Path, signers: Path) -> None:
    to = tmp_path / "opt" / "fleetloop"
    done = install(tree, to, "--signers", signers)
    assert done.returncode == 0, done.stderr
    assert "signed by release@example.com" in done.stderr
    assert to.is_symlink()
    helped = subprocess.run(
        [to / "bin/fleetloop-agent", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert helped.returncode == 0
    assert "enrol" in helped.stdout
    assert not list((to / "lib").glob("python*/site-packages/control_plane")), "the agent alone was asked for"
    before = to.resolve().stat().st_ino
    again = install(tree, to)
    assert (again.returncode, to.resolve().stat().st_ino) == (0, before), again.stderr
    (tmp_path / "taken").mkdir()
    assert "is there and is not ours" in install(tree, tmp_path / "taken").stderr


def test_the_same_checkout_gives_the_same_bytes(bundle: Path, key: Path, tmp_path: Path) -> None:
    again = build(tmp_path, key, 0o077, TZ="Pacific/Auckland", LC_ALL="C", PYTHONHASHSEED="7")
    assert again.read_bytes() == bundle.read_bytes()
    digest, name = (tmp_path / f"{again.name}.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(again.read_bytes()).hexdigest(), bundle.name)


def test_its_manifest_names_everything_in_it(tree: Path) -> None:
    manifest = json.loads((tree / "MANIFEST.json").read_text())
    assert (manifest["schema"], manifest["parts"], manifest["images"]) == ("fleetloop.bundle/v1", ["agent"], {})
    listed = {each["path"]: each for each in manifest["files"]}
    there = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert there - listed.keys() == {"MANIFEST.json", "SHA256SUMS", "SHA256SUMS.sig"}
    for path, each in listed.items():
        data = (tree / path).read_bytes()
        assert (each["sha256"], each["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    for needed in ("infra/helm/fleetloop/Chart.yaml", "infra/systemd/fleetloop.target", "docs/how-to/operate.md"):
        assert needed in listed
    rules = "infra/helm/fleetloop/files/alerts.yaml"
    assert not (tree / rules).is_symlink()
    assert (tree / rules).read_bytes() == (ROOT / "infra/observability/alerts.yaml").read_bytes()
    pinned = {line.split(" ")[0] for line in (tree / "requirements/agent.txt").read_text().splitlines()}
    lock = {line.lower().replace("_", "-") for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert {each for each in pinned if not each.startswith("fleetloop-agent==")} <= lock


def damage_wheel(tree: Path) -> None:
    wheel = next(tree.glob("wheels/httpx-*.whl"))
    data = bytearray(wheel.read_bytes())
    data[len(data) // 2] ^= 1
    wheel.write_bytes(data)


def take_wheel_away(tree: Path) -> None:
    next(tree.glob("wheels/tuf-*.whl")).unlink()


def plant_wheel(tree: Path) -> None:
    shutil.copy(next(tree.glob("wheels/httpx-*.whl")), tree / "wheels" / "httpx-99.0-py3-none-any.whl")


def plant_link(tree: Path) -> None:
    (tree / "wheels" / "httpx-99.0-py3-none-any.whl").symlink_to("/etc/hostname")


def swap_wheel_and_sums(tree: Path) -> None:
    """What somebody does who knows about SHA256SUMS; only a signature tells."""
    damage_wheel(tree)
    sums = [line.split("  ", 1)[1] for line in (tree / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{hashlib.sha256((tree / name).read_bytes()).hexdigest()}  {name}\n" for name in sums]
    (tree / "SHA256SUMS").write_text("".join(lines))


def take_signature_away(tree: Path) -> None:
    (tree / "SHA256SUMS.sig").unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage_wheel, "wheels/httpx-"),
        (take_wheel_away, "wheels/tuf-"),
        (plant_wheel, "files that nobody bundled: wheels/httpx-99.0"),
        (plant_link, "files that nobody bundled: wheels/httpx-99.0"),
        (swap_wheel_and_sums, "the signature over SHA256SUMS is not release@example.com's"),
        (take_signature_away, "this bundle is not signed"),
    ],
)
def test_a_bundle_that_was_changed_is_refused(
    tree: Path, tmp_path: Path, signers: Path, change: object, said: str
) -> None:
    assert callable(change)
    change(tree)
    done = install(tree, tmp_path / "opt" / "fleetloop", "--signers", signers)
    assert done.returncode == 1
    assert said in done.stderr
    assert "nothing was installed" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_strangers_signature_counts_for_nothing(tree: Path, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True, timeout=60)
    (tmp_path / "signers").write_text(f"other@example.com {(tmp_path / 'other.pub').read_text()}")
    done = install(tree, tmp_path / "opt" / "fleetloop", "--signers", tmp_path / "signers")
    assert (done.returncode, "signed by nobody" in done.stderr) == (1, True)


def test_another_python_is_refused_before_anything_is_written(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.9 riscv64 linux\n")
    other.chmod(0o755)
    done = install(tree, tmp_path / "opt" / "fleetloop", "--python", other)
    assert done.returncode == 1
    assert f"these wheels are for Python {sys.version_info.major}.{sys.version_info.minor} on linux" in done.stderr
    assert not (tmp_path / "opt").exists()


def needed_by(name: str, extras: set[str]) -> set[str]:
    """Return the names of all that a distribution of this environment brings, with these extras."""
    found, waiting = set[str](), [(name, frozenset(extras))]
    seen = set[tuple[str, frozenset[str]]]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        found.add(one[0].lower().replace("_", "-"))
        for line in metadata.requires(one[0]) or ():
            requirement = Requirement(line)
            environments = [{"extra": extra} for extra in (one[1] or {""})]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in environments):
                waiting.append((requirement.name, frozenset(requirement.extras)))
    return found


def test_torch_comes_with_the_workload_alone() -> None:
    assert "prefect" in needed_by("fleetloop", {"fast"})
    assert not {"torch", "mujoco"} & needed_by("fleetloop", {"fast"})
    assert {"torch", "mujoco"} <= needed_by("fleetloop", {"fast", "workload"})
