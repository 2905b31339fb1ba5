"""Owns the array alias and the one error that means: what you gave me is wrong, and here is why."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rng = np.random.Generator
Json = dict[str, Any]


class WorkloadError(Exception):
    """An input cannot be used. The message names the file or field; a retry elsewhere would not help."""
