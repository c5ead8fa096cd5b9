"""One browser for all tests, and pages that the programs made from a real index."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from attrs import evolve

from pubtools_mlmerge.reports.html import Failure, PageInfo, merge_page
from pubtools_mlmerge.testing import (
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.browser.devtools import Browser, browser
from tests.factories import content_of, document, entry
from tests.paper import NOW, example
from tests.programs import put, run
from tests.servers import require

HOSTILE = "<script>alert(1)</script>\u202e\u200fevil&amp;" + "x" * 300
THREE_YEARS = 3 * 365


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start the browser; that takes longer than any test with it."""
    with browser(require("chromium"), tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture(scope="session")
def registry() -> Iterator[RegistryServer]:
    """Hold an old index with a part that is three years old, a new one, and others."""
    with RegistryServer() as server:
        put(server, "new", _new())
        for tag in ("stable", "v1", "v2", "v3"):
            put(server, tag, _old())
        hostile = content_of(document("linux/amd64", entry(f"linux/{HOSTILE}", seed="evil")))
        server.put_manifest("app", "hostile", hostile, "application/vnd.oci.image.index.v1+json")
        yield server


def _new() -> ImageIndex:
    images = [make_image(f"linux/{name}", seed="new") for name in ("amd64", "arm64", "ppc64le")]
    return make_index([*images, *map(make_attestation, images)])


def _old() -> ImageIndex:
    made = datetime.now(timezone.utc) - timedelta(days=THREE_YEARS, hours=1)
    images = [make_image(f"linux/{name}", seed="old") for name in ("amd64", "arm64", "ppc64le")]
    s390x = make_image("linux/s390x", seed="old", created=f"{made:%Y-%m-%dT%H:%M:%SZ}")
    return make_index([*images, s390x, make_image("windows/amd64", seed="old")])


@pytest.fixture(scope="session")
def pages(registry: RegistryServer, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Let the programs write pages."""
    to = tmp_path_factory.mktemp("pages")
    image = f"{registry.host}/app"
    batch = to / "batch.jsonl"
    tags = ("v1", "v2", "absent/v1", "v3")
    lines = [{"source_ref": f"{image}:new", "dest_ref": f"{image}:{tag}"} for tag in tags]
    batch.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    merge = ["merge", "--source-ref", f"{image}:new", "--max-age-days", "365"]
    calls = {
        "merge": [*merge, "--dest-ref", f"{image}:stable", "--drop", "windows/*"],
        "batch": ["merge", "--batch", str(batch), "--ages"],
        "hostile": [*merge, "--dest-ref", f"{image}:hostile", "--dry-run"],
        "inspection": ["inspect", f"{image}:stable", "--ages", "--check"],
        "hostile inspection": ["inspect", f"{image}:hostile", "--check"],
    }
    codes = {"batch": 1, "hostile inspection": 1}
    for name, call in calls.items():
        done = run(*call, "--output", "html", str(to / f"{name}.html"))
        assert done.code == codes.get(name, 0), done.err
    return {name: to / f"{name}.html" for name in calls}


@pytest.fixture(scope="session")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the page of a thousand merges, as a batch of as many would."""
    made = example()
    reports = [evolve(made, destination=evolve(made.destination, tag=f"v{n}")) for n in range(1000)]
    page = merge_page([*reports, Failure("line 1001", "refused")], PageInfo(NOW))
    file = tmp_path_factory.mktemp("thousand") / "page.html"
    file.write_text(page, encoding="ascii")
    return file


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Name the directory for pictures; they are kept if MLMERGE_PICTURES names one."""
    kept = Path(os.environ.get("MLMERGE_PICTURES") or tmp_path)
    kept.mkdir(parents=True, exist_ok=True)
    return kept
