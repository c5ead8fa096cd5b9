"""Merges behind nginx's rate limit, which answers 429 in HTML and does not say for how long."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import make_index
from tests.e2e.conftest import Shelf, images, merged
from tests.peers import OCI_INDEX
from tests.programs import Done, run, write_program
from tests.servers import free_port, require

# In the short form, how many requests are refused depends on who comes when.
LONG = bool(os.environ.get("MLMERGE_STRESS"))
RATE, TAGS = 5 if LONG else 10, [f"v{number}" for number in range(30 if LONG else 12)]
OLD, NEW = images("linux/amd64", "linux/s390x", seed="old"), images("linux/amd64", seed="new")
PAGE = b"<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n</html>\r\n"
CONFIG = """
daemon off; pid {directory}/pid; error_log stderr;
events {{}}
http {{
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  log_format short "$status"; access_log off;
  limit_req_zone $server_port zone=manifests:1m rate={rate}r/s; limit_req_status 429;
  server {{
    listen {host};
    location / {{ proxy_pass http://{registry}; }}
    location ~ /manifests/ {{
      limit_req zone=manifests; proxy_pass http://{registry};
      access_log {directory}/manifests.log short;
    }}
  }}
}}
"""


@contextmanager
def limited(shelf: Shelf, directory: Path) -> Iterator[tuple[str, Counter[int]]]:
    """Put nginx in front of a registry; in the end, count its answers for manifests by status."""
    program = require("/usr/sbin/nginx")
    host, answered = f"127.0.0.1:{free_port()}", Counter[int]()
    config = directory / "nginx.conf"
    names = {"directory": directory, "host": host, "registry": shelf.registry.host, "rate": RATE}
    config.write_text(CONFIG.format(**names), encoding="utf-8")
    with subprocess.Popen([program, "-c", str(config), "-p", str(directory)]) as nginx:
        try:
            while not (directory / "pid").exists() and nginx.poll() is None:
                time.sleep(0.02)
            yield host, answered
        finally:
            nginx.terminate()
    answered.update(map(int, (directory / "manifests.log").read_text().split()))


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    """Have the tags to merge into."""
    old = make_index(OLD)
    shelf.put("new", make_index(NEW))
    shelf.put(TAGS[0], old)
    for tag in TAGS[1:]:
        shelf.peer.put(shelf.repository, tag, old.content, OCI_INDEX).raise_for_status()
    return shelf


def batch(shelf: Shelf, host: str, *options: str) -> Done:
    tags = ",".join(shelf.ref(tag) for tag in TAGS)
    names = ("--source-ref", shelf.ref("new"), "--dest-ref", tags, "--quay-host", f"http://{host}")
    return run("merge", *names, "--output", "json", *options, seconds=180)


def test_many_tags_are_merged_at_few_requests_a_second(filled: Shelf, tmp_path: Path) -> None:
    with limited(filled, tmp_path) as (host, answered):
        done = batch(filled, host)

    assert done.code == 0, done.err
    assert {filled.get(tag).content for tag in TAGS} == {merged(*NEW, OLD[1])}
    needed = 1 + 4 * len(TAGS)  # the source; each tag is read, looked at, written, looked at
    assert sum(answered.values()) <= needed * (1.25 if LONG else 2), answered


def test_a_batch_that_is_out_of_time_ends_with_whole_tags(filled: Shelf, tmp_path: Path) -> None:
    with limited(filled, tmp_path) as (host, _):
        done = batch(filled, host, "--timeout", "3")

    held = [filled.get(tag).content for tag in TAGS]
    written = held.count(merged(*NEW, OLD[1]))
    failed = [line for line in done.err.splitlines() if "not done within 3 seconds" in line]
    assert done.code == 1
    assert written + held.count(make_index(OLD).content) == len(TAGS)
    assert (len(done.results), len(done.failures)) == (len(TAGS), len(failed))


def test_a_program_that_does_not_end_is_out_of_time_too(shelf: Shelf, tmp_path: Path) -> None:
    write_program(tmp_path / "skopeo", "exec sleep 100")
    source = shelf.put("new", make_index(NEW), f"{shelf.repository}/other")
    options = ("--copy", "skopeo", "--timeout", "2")

    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run("merge", source, shelf.ref("stable"), *options, env={"PATH": path})

    assert done.code == 1
    assert "not done within 2 seconds" in done.err
    assert shelf.find("stable") is None
