"""One plain merge as a process, beside a bare script that sends the same three requests.

Both run in turn against a docker-registry on the loopback interface; the figures are ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pubtools_mlmerge.testing import make_image, make_index, upload
from tests.servers import docker_registry

RUNS = 15
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

BARE = """
import requests
session = requests.Session()
accept = {{"Accept": "{list}"}}
new = session.get("{url}/v2/app/manifests/new", headers=accept)
old = session.get("{url}/v2/app/manifests/old", headers=accept)
put = session.put(
    "{url}/v2/app/manifests/old", data=new.content, headers={{"Content-Type": "{list}"}}
)
put.raise_for_status()
"""


def seconds(command: list[str]) -> float:
    """Run a command and take its time."""
    began = time.perf_counter()
    subprocess.run(  # noqa: S603 - programs of our own
        command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - began


def main() -> None:
    """Measure in pairs and print the figures."""
    new = make_index([make_image("linux/amd64", docker=True, seed="new")], docker=True)
    platforms = ("linux/amd64", "linux/s390x")
    old = make_index([make_image(p, docker=True, seed="old") for p in platforms], docker=True)
    parts: dict[str, list[float]] = {"bare": [], "merge": [], "imports": []}
    with (
        tempfile.TemporaryDirectory() as directory,
        docker_registry(Path(directory)) as registry,
    ):
        bare = BARE.format(url=registry.url, list=LIST)
        merge = "from pubtools_mlmerge.cli import merge_main; merge_main()"
        image = f"{registry.host}/app"
        references = ["--source-ref", f"{image}:new", "--dest-ref", f"{image}:old"]
        # What the design asks every command to load, before a line of ours.
        required = "import argparse, attrs, requests, pubtools.pluggy"
        upload(registry.url, "app", new, reference="new")
        for _ in range(RUNS):
            upload(registry.url, "app", old, reference="old")
            parts["bare"].append(seconds([sys.executable, "-c", bare]))
            upload(registry.url, "app", old, reference="old")
            parts["merge"].append(seconds([sys.executable, "-c", merge, *references]))
            parts["imports"].append(seconds([sys.executable, "-c", required]))
    for name in ("imports", "merge"):
        ratios = [a / b for a, b in zip(parts[name], parts["bare"])]
        middle = statistics.median(ratios)
        print(f"{name} / bare: median {middle:.2f}, min {min(ratios):.2f}, max {max(ratios):.2f}")


if __name__ == "__main__":
    main()
