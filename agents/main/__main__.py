"""`python -m agents.main`."""

import os
import sys

# Looking for plug-ins loads every package's metadata; an agent has none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Parts of httpx that are there only where other programs brought them: megabytes of an agent that never uses them.
for _name in ("httpx._main", "h2", "zstandard", "brotli"):
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]  # documented: makes the import fail

from agents.main.cli import main  # noqa: E402 - the line above must come first

if __name__ == "__main__":
    sys.exit(main())
