"""`--dry-run` of what changes keys: the same steps on a copy that is thrown away, and what they would have written."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import typer

from control_plane.cli.output import console

TryOnly = Annotated[
    bool, typer.Option("--dry-run", help="do it on a copy, say what would be written, and write nothing")
]
ENDING = ".pem"


@contextmanager
def tried(folder: Path, *, dry_run: bool) -> Iterator[Path]:
    """Give the folder of keys, or a copy of it for a dry run; the copy holds links to secrets and no secret."""
    if not dry_run:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fl-keys-") as temp:
        copy = Path(temp) / "keys"
        if folder.exists():
            shutil.copytree(folder, copy, copy_function=_copy)
        before, console.quiet = _files(copy), True
        try:
            yield copy
        finally:
            console.quiet = False
        _tell(folder, before, _files(copy))


def _copy(source: str, to: str) -> str:
    if not source.endswith(ENDING):
        return str(shutil.copy2(source, to))
    Path(to).symlink_to(Path(source).resolve())
    return to


def _files(folder: Path) -> dict[str, str]:
    """Return the digests of what is there by relative path."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in found}


def _tell(folder: Path, before: dict[str, str], after: dict[str, str]) -> None:
    console.print(f"dry run: nothing in {folder} was changed; it would have")
    for verb, names in (
        ("made", after.keys() - before.keys()),
        ("changed", {name for name in after.keys() & before.keys() if after[name] != before[name]}),
        ("removed", before.keys() - after.keys()),
    ):
        for name in sorted(names):
            console.print(f"  {verb} {name}", highlight=False)
