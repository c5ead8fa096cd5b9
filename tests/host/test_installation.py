"""What can be said of an installation, and which modules a task of it loads."""

from __future__ import annotations

import re
import sys

from tests.host.running import program
from tests.pages import DOCS


def run(code: str) -> list[str]:
    """Run code in a process of its own, and return the names that it prints."""
    done = program(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_plugin_alone_does_not_load_the_host() -> None:
    code = "import pubtools_mlmerge.plugin, sys; print('pubtools._quay' in sys.modules)"

    assert run(code) == ["False"]


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


# Which modules are loaded

OTHERS = """
import sys
from importlib.metadata import entry_points
for entry in entry_points(group="console_scripts"):
    if entry.module.startswith("pubtools") and not entry.module.startswith("pubtools_mlmerge"):
        entry.load()
before = {*sys.modules, *sys.builtin_module_names}
import pubtools_mlmerge.cli, pubtools_mlmerge.cli.demo, pubtools_mlmerge.plugin
import pubtools_mlmerge.tasks
print(*sorted(n for n in set(sys.modules) - before if not n.startswith("pubtools_mlmerge")))
"""

IDLE = """
import sys
from pubtools._quay import push_docker, tag_docker
from pubtools.pluggy import task_context
settings = dict.fromkeys(
    "source_quay_user source_quay_password dest_quay_user dest_quay_password dest_quay_api_token "
    "quay_host pyxis_server quay_namespace iib_krb_principal iib_organization iib_index_image "
    "quay_operator_repository skopeo_image".split(), "x"
)
settings["docker_settings"] = {"umb_urls": [], "docker_reference_registry": []}
settings.update(mlmerge={"steps": []}, signing=[])
tag_docker.LocalExecutor.skopeo_login = lambda *_: None
with task_context():
    push_docker.PushDocker([], None, "1", "target", settings).run()
    tag_docker.TagDocker([], None, "1", "target", settings).run()
print(*sorted(name for name in sys.modules if name.startswith("pubtools_mlmerge")))
"""

ENGINE = ("core", "merging", "registry", "reports", "settings", "locks", "hooks", "observe")
MOST = 12


def test_our_entry_points_load_no_module_that_the_host_has_not_loaded() -> None:
    assert run(OTHERS) == []


def test_a_task_that_does_not_merge_loads_few_of_our_modules() -> None:
    loaded = run(IDLE)

    assert "pubtools_mlmerge.plugin" in loaded
    parts = [name.split(".")[1] for name in loaded if "." in name]
    assert [part for part in parts if part in ENGINE] == []
    assert len(loaded) <= MOST, loaded
