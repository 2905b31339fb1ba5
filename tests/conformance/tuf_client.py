"""The agent's TUF client as tuf-conformance wants to call it (CLIENT-CLI.md of that suite).

Fetcher, limits, cache lock and updater are those of the device; only the command line is made for the suite.
"""

import argparse
import sys
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError

from agents.link.metadata import BoundedFetcher
from agents.update.metadata import Question, open_updater


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-dir", required=True, type=Path)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    options = parser.parse_args()
    pinned = options.metadata_dir.parent / f"{options.metadata_dir.name}.pinned.json"
    if options.command == "init":
        pinned.write_bytes(options.root.read_bytes())
        (options.metadata_dir / "root.json").write_bytes(options.root.read_bytes())
        return 0
    try:
        _work(options, pinned)
    except (RepositoryError, DownloadError, OSError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def _work(options: argparse.Namespace, pinned: Path) -> None:
    question = Question(cache=str(options.metadata_dir), root=str(pinned), url=options.metadata_url)
    updater = open_updater(question, BoundedFetcher(question.limits))
    updater.refresh()
    for name in options.target_name:
        found = updater.get_targetinfo(name)
        if found is None:
            raise RepositoryError(f"{name} is not listed")
        options.target_dir.mkdir(parents=True, exist_ok=True)
        updater.target_dir = str(options.target_dir)
        if updater.find_cached_target(found) is None:
            updater.download_target(found, target_base_url=options.target_base_url)


if __name__ == "__main__":
    sys.exit(main())
