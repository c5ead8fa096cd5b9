"""merge() alone: how it grows with the number of entries."""

from __future__ import annotations

import json
from functools import partial

import pytest

from benchmarks.conftest import Measure
from benchmarks.registry import DOCKER_LIST
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge

FEW = 40  # entries; a merge of fewer is measured many times over, as clocks are coarse


def content(seed: str, length: int) -> bytes:
    """Make a list of images, each of an architecture of its own."""
    entries = [
        {
            "mediaType": DOCKER_LIST.replace(".list", ""),
            "size": 500,
            "digest": f"sha256:{seed}{number:063x}",
            "platform": {"architecture": f"arch{number}", "os": "linux"},
        }
        for number in range(length)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries}).encode()


def merged(source: bytes, destination: bytes) -> bytes:
    return merge(Index.from_bytes(source), Index.from_bytes(destination)).result.content


@pytest.mark.parametrize("length", [4, 40, 400, 4000, 12000])
def bench_merge(measure: Measure, length: int) -> None:
    """A destination of which one entry in ten is kept, from bytes to bytes."""
    used = 4 if measure.tiny else length
    work = partial(merged, content("a", used - max(1, used // 10)), content("b", used))
    measure("growth of merge()", f"{length} entries", work, over=50 if length <= FEW else 1)
