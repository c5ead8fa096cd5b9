"""What can be said of an installation."""

from __future__ import annotations

import re
import sys

from tests.host.running import program
from tests.pages import DOCS


def test_the_plugin_alone_does_not_load_the_host() -> None:
    done = program(
        sys.executable,
        "-c",
        "import pubtools_mlmerge.plugin, sys; print('pubtools._quay' in sys.modules)",
    )

    assert done.stdout.strip() == "False", done.stderr


def test_the_page_shows_what_an_installation_says() -> None:
    page = (DOCS / "host.rst").read_text(encoding="utf-8")
    shown = re.search(r"\$ python -m pubtools_mlmerge\.host\n((?:   .*\n)+)", page)
    assert shown is not None
    expected = [line.removeprefix("   ") for line in shown[1].splitlines()]

    done = program(sys.executable, "-m", "pubtools_mlmerge.host")

    said = done.stdout.splitlines()
    assert done.returncode == 0
    assert [line.split()[0] for line in said[:2]] == [line.split()[0] for line in expected[:2]]
    assert said[2:] == expected[2:]


def test_it_says_what_the_environment_enables() -> None:
    done = program(sys.executable, "-m", "pubtools_mlmerge.host", MLMERGE_STEPS="push\n::x")

    assert done.stdout.splitlines()[-1] == "environment: MLMERGE_STEPS=push?::x"


def test_it_says_what_does_not_fit() -> None:
    host = "from pubtools._quay import push_docker; del push_docker.PushDocker.rollback"
    main = "import runpy; runpy.run_module('pubtools_mlmerge.host', run_name='__main__')"

    done = program(sys.executable, "-c", f"{host}; {main}")

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "step push: does not fit" in lines
    assert "  push_docker.PushDocker.rollback takes None" in lines
    assert "step tag-docker: the seams fit" in lines
