"""Puts an installation into one file for machines that reach no registry: wheels, images, chart, units, documents.

Run: python infra/bundle/bundle.py [--only agent] [--with workload] [--to dist]. The wheels are those of
requirements.lock for the Python and the machine that run this. The same checkout with the same SOURCE_DATE_EPOCH (the
last commit's time if unset) gives the same bytes, but for images, which are as Docker saves them.
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SCHEMA: Final = "fleetloop.bundle/v1"
PARTS: Final = {
    "agent": ("infra/packaging/agent", ""),  # the device agent
    "onnx": ("infra/packaging/agent", "onnx,recorder"),  # and what runs models and records on a device
    "server": (".", "fast"),  # control plane, worker, flows, command line
    "workload": (".", "fast,workload"),  # and what the reference workload trains and simulates with: torch, MuJoCo
}
USUAL: Final = ("agent", "onnx", "server")
FILES: Final = ("docs", "infra", "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md")
IMAGES: Final = ("server", "agent", "nginx")
NAMESPACE: Final = "fleetloop-bundle"
"""What a signature over SHA256SUMS is for (ssh-keygen -Y); install.sh says the same."""


class BundleError(Exception):
    """Says what is wrong and what to do."""


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment, check=False, timeout=3600
    )
    if done.returncode:
        raise BundleError(f"{' '.join(command[:6])} ... fails:\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout.strip()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_wheels(sources: set[str], folder: Path, epoch: int) -> dict[str, Path]:
    """Build our own wheels; with hatchling here, no build environment is made and nothing fetched for it."""
    beside = ["--no-build-isolation"] if find_spec("hatchling") else []
    found = dict[str, Path]()
    for source in sorted(sources):
        to = folder / source.replace("/", "-")
        run(
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *beside, "--wheel-dir", str(to),
            f"./{source}", SOURCE_DATE_EPOCH=str(epoch),
        )  # fmt: skip
        (found[source],) = to.glob("*.whl")
    return found


def fetch(part: str, wheel: Path, folder: Path) -> list[Path]:
    """Fetch what a part needs, at the versions of requirements.lock."""
    _, extras = PARTS[part]
    wanted = f"{wheel}[{extras}]" if extras else str(wheel)
    run(
        sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--constraint", "requirements.lock",
        "--dest", str(folder), wanted,
    )  # fmt: skip
    return sorted(folder.glob("*.whl"))


def add_wheels(parts: list[str], tree: Path, work: Path, epoch: int) -> None:
    """Lay wheels/ and requirements/PART.txt, which names each of them with its digest."""
    (tree / "wheels").mkdir()
    (tree / "requirements").mkdir()
    ours = build_wheels({PARTS[part][0] for part in parts}, work / "ours", epoch)
    for part in parts:
        lines = list[str]()
        for wheel in fetch(part, ours[PARTS[part][0]], work / part):
            name, version, *_ = wheel.name.split("-")
            lines.append(f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{sha256_of(wheel)}\n")
            shutil.move(wheel, tree / "wheels" / wheel.name)
        (tree / "requirements" / f"{part}.txt").write_text("".join(sorted(lines)))


def add_files(tree: Path) -> None:
    """Lay what the checkout tracks of documents and infrastructure; links become what they lead to."""
    for name in run("git", "ls-files", "-z", "--", *FILES).split("\0"):
        if name and (ROOT / name).exists():
            to = tree / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to)
            to.chmod(0o755 if os.access(ROOT / name, os.X_OK) else 0o644)
    shutil.copy(ROOT / "infra" / "bundle" / "install.sh", tree / "install.sh")
    (tree / "install.sh").chmod(0o755)
    for bill in sorted((ROOT / "dist").glob("*.cdx.json")):
        (tree / "sbom").mkdir(exist_ok=True)
        shutil.copyfile(bill, tree / "sbom" / bill.name)


def docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=60).returncode == 0


def add_images(tree: Path, tag: str) -> dict[str, str]:
    """Save the images that are there; return the id of each."""
    found = dict[str, str]()
    for image in IMAGES:
        name = f"fleetloop/{image}:{tag}"
        seen = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", name], capture_output=True, text=True, check=False
        )
        if seen.returncode:
            print(f"bundle: there is no image {name}, so it is left out", file=sys.stderr)
            continue
        (tree / "images").mkdir(exist_ok=True)
        run("docker", "save", "--output", str(tree / "images" / f"{image}.tar"), name)
        found[name] = seen.stdout.strip()
    return found


def seal(tree: Path, about: dict[str, object], sign_key: Path | None) -> None:
    """Write MANIFEST.json, SHA256SUMS over everything, and a signature over that if a key is given."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    listed = [{"path": str(p.relative_to(tree)), "sha256": sha256_of(p), "bytes": p.stat().st_size} for p in files]
    (tree / "MANIFEST.json").write_text(json.dumps({"schema": SCHEMA, **about, "files": listed}, indent=1) + "\n")
    every = sorted(path for path in tree.rglob("*") if path.is_file())
    (tree / "SHA256SUMS").write_text("".join(f"{sha256_of(p)}  {p.relative_to(tree)}\n" for p in every))
    if sign_key is not None:
        sign(tree / "SHA256SUMS", sign_key)


def sign(path: Path, key: Path) -> None:
    """Write the signature of a file beside it."""
    path.with_name(f"{path.name}.sig").unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-Y", "sign", "-f", str(key.resolve()), "-n", NAMESPACE, str(path))


def pack(tree: Path, to: Path, epoch: int) -> None:
    """Write the archive, whole or not at all: sorted, of one owner and one time."""

    def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
        item.uid = item.gid = 0
        item.uname = item.gname = ""
        item.mtime = epoch
        item.mode = 0o755 if item.isdir() or item.mode & 0o100 else 0o644
        return item

    new = to.with_name(f".{to.name}.new")
    # Wheels are packed already: more than the least effort only takes longer.
    with (
        new.open("wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in [tree, *sorted(tree.rglob("*"))]:
            archive.add(path, str(path.relative_to(tree.parent)), recursive=False, filter=plain)
    new.replace(to)


def make(parts: list[str], to: Path, sign_key: Path | None, *, images: bool) -> Path:
    """Make the bundle and return its path; `TO/NAME.tar.gz.sha256` is written beside it.

    Raises:
        BundleError: a wheel cannot be had, or what is needed is not here.
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = f"fleetloop-{version}-airgapped"
    to = to.resolve()
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to, prefix=".bundle-") as work:
        tree = Path(work) / name
        tree.mkdir()
        add_wheels(parts, tree, Path(work), epoch)
        add_files(tree)
        saved = add_images(tree, os.environ.get("FLEETLOOP_IMAGE_TAG", "latest")) if images and docker_answers() else {}
        (tree / "VERSION").write_text(f"{version}\n")
        (tree / "PYTHON").write_text(f"{python} {platform.machine()} {sys.platform}\n")
        about = {"version": version, "commit": run("git", "rev-parse", "HEAD"), "made_at": epoch, "python": python}
        seal(tree, about | {"machine": platform.machine(), "parts": parts, "images": saved}, sign_key)
        archive = to / f"{name}.tar.gz"
        pack(tree, archive, epoch)
    said = to / f"{archive.name}.sha256"
    said.write_text(f"{sha256_of(archive)}  {archive.name}\n")
    if sign_key is not None:
        sign(said.resolve(), sign_key)
    return archive


def main() -> None:
    parser = argparse.ArgumentParser(description="one file for machines that reach no registry")
    parser.add_argument("--only", action="append", choices=PARTS, help="just this part, and no images; may be repeated")
    parser.add_argument("--with", action="append", choices=PARTS, dest="also", default=[], help="this part too")
    parser.add_argument("--to", type=Path, default=ROOT / "dist", help="folder that it is written to")
    parser.add_argument("--sign-key", type=Path, help="SSH key that signs what is in it, and its digest")
    arguments = parser.parse_args()
    parts = [part for part in PARTS if part in (arguments.only or USUAL) or part in arguments.also]
    try:
        archive = make(parts, arguments.to, arguments.sign_key, images=not arguments.only)
    except BundleError as error:
        sys.exit(f"bundle: {error}")
    print(f"{archive} ({archive.stat().st_size / 1e6:.1f} MB: {', '.join(parts)})")


if __name__ == "__main__":
    main()
