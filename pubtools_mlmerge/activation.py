"""Activation: whether anything speaks of merging, found out without reading it."""

from __future__ import annotations

import os
from collections.abc import Mapping

KEY = "mlmerge"
"""The key of the target settings that holds ours."""
PREFIX = "MLMERGE_"
"""What our environment variables begin with."""


def is_mentioned(target_settings: Mapping[str, object]) -> bool:
    """Tell whether the settings of a task or the environment hold anything of ours.

    Args:
        target_settings (Mapping[str, object]):
            Settings of the target.

    Returns:
        bool: False if there is nothing to be read.
    """
    return bool(target_settings.get(KEY)) or any(name.startswith(PREFIX) for name in os.environ)
