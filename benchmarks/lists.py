"""The merge itself, without a registry: time and memory for short and for long lists."""

from __future__ import annotations

import gc
import json
import logging
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from benchmarks import sides
from benchmarks.figures import Case, Side, in_turn
from benchmarks.scale import Scale
from benchmarks.world import LIST
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge

TIME = "merge() alone"
WHOLE = "merge(), bytes to bytes"
MEMORY = "memory that merge() takes"
OURS, HOSTS = "merge()", "host's functions"
_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
_KEPT = 10  # one entry of the destination in ten, and at least one, is kept
_LONG = 400  # entries; a merge of less is measured many times over, as clocks are coarse
_OVER = 50

Work = Callable[[], object]
Prepare = Callable[[], Work]


def cases(scale: Scale) -> Iterator[Case]:
    """Measure destinations of each length; the source has other images for nearly all of it."""
    # What the host tells its log is no part of the work.
    logging.getLogger("pubtools.quay").setLevel(logging.WARNING)
    for length in scale.entries:
        source, destination = _content("a", length - max(1, length // _KEPT)), _content("b", length)
        alone: dict[str, Prepare] = {OURS: partial(_ours, source, destination)}
        whole: dict[str, Prepare] = {OURS: partial(_ours_whole, source, destination)}
        if sides.HAS_HOST:
            alone[HOSTS] = partial(_hosts, source, destination)
            whole[HOSTS] = partial(_hosts_whole, source, destination)
        over = 1 if length >= _LONG else _OVER
        for name, works in ((TIME, alone), (WHOLE, whole)):
            times = {side: partial(_seconds, prepare, over) for side, prepare in works.items()}
            yield _case(name, length, times, scale)
        peaks = {name: partial(_peak, prepare) for name, prepare in alone.items()}
        yield _case(MEMORY, length, peaks, scale, unit="bytes")


def _case(
    name: str, length: int, runs: Mapping[str, Callable[[], float]], scale: Scale, unit: str = "s"
) -> Case:
    values = in_turn(runs, scale.runs, warm=scale.warm)
    taken = {side: Side(values=each) for side, each in values.items()}
    return Case(name=name, details={"entries": length}, sides=taken, against=HOSTS, unit=unit)


def _content(seed: str, length: int) -> bytes:
    """Make a list of images, each of an architecture of its own."""
    entries = [
        {
            "mediaType": _IMAGE,
            "size": 500,
            "digest": f"sha256:{seed}{number:063x}",
            "platform": {"architecture": f"arch{number}", "os": "linux"},
        }
        for number in range(length)
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": LIST, "manifests": entries}).encode()


def _ours(source: bytes, destination: bytes) -> Work:
    new, old = Index.from_bytes(source), Index.from_bytes(destination)
    return lambda: merge(new, old)


def _hosts(source: bytes, destination: bytes) -> Work:
    return partial(sides.host_merge, json.loads(source), json.loads(destination))


def _ours_whole(source: bytes, destination: bytes) -> Work:
    return lambda: merge(Index.from_bytes(source), Index.from_bytes(destination)).result.content


def _hosts_whole(source: bytes, destination: bytes) -> Work:
    def work() -> bytes:
        merged = sides.host_merge(json.loads(source), json.loads(destination))
        return json.dumps(merged, sort_keys=True, indent=4).encode()

    return work


def _seconds(prepare: Prepare, over: int) -> float:
    """Take the time of work on values that nobody worked on before."""
    works = [prepare() for _ in range(over)]
    gc.collect()  # or what was prepared is gone through while one side works, and not the other
    began = time.perf_counter()
    results = [work() for work in works]
    took = time.perf_counter() - began
    del results  # who merges has a use for them, and to give them up is no part of the work
    return took / over


def _peak(prepare: Prepare) -> float:
    """Take the most memory that work has at a time, beyond what it works on."""
    work = prepare()
    tracemalloc.start()
    try:
        work()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
