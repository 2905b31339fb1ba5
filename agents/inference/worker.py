"""The process in which bundles are qualified: a path per line in, a JSON verdict per line out. It ends with its input.

Nothing else runs here, so whatever a model does to the runtime ends with this process.
"""

import json
import sys
from pathlib import Path

from agents.inference.session import NotQualifiedError, qualify


def main() -> None:
    for line in sys.stdin:
        answer = json.dumps(_answer(Path(line.rstrip("\n"))))
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _answer(bundle: Path) -> dict[str, object]:
    try:
        return {"ok": True, "reason": "", "numbers": qualify(bundle)}
    except NotQualifiedError as error:
        return {"ok": False, "reason": str(error)[:300], "numbers": {}}
    except OSError as error:
        return {"trouble": str(error)[:300]}


if __name__ == "__main__":
    main()
