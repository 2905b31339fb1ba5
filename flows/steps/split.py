"""Which groups are held out: by hash, so that a group falls on the same side in every dataset."""

import hashlib
from collections.abc import Sequence


def is_held_out(group: str, share: float, salt: str) -> bool:
    """Say whether a group is held out; about `share` of all groups are."""
    digest = hashlib.sha256(f"{salt}/{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_groups(groups: Sequence[str], share: float, salt: str) -> dict[str, str]:
    """Return "train" or "holdout" for every group; with few groups, at least one stands on each side."""
    unique = sorted(set(groups))
    held = {group for group in unique if is_held_out(group, share, salt)}
    if share > 0 and len(unique) > 1:
        held = held or {unique[0]}
        if len(held) == len(unique):
            held.discard(unique[-1])
    return {group: "holdout" if group in held else "train" for group in unique}
