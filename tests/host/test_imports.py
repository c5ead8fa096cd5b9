"""Which modules of ours an environment with the host loads."""

from __future__ import annotations

import sys

from tests.host.running import program

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


def run(code: str) -> list[str]:
    """Run code in a process of its own, and return the names that it prints."""
    done = program(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_our_entry_points_load_no_module_that_the_host_has_not_loaded() -> None:
    assert run(OTHERS) == []


def test_a_task_that_does_not_merge_loads_few_of_our_modules() -> None:
    loaded = run(IDLE)

    assert "pubtools_mlmerge.plugin" in loaded
    parts = [name.split(".")[1] for name in loaded if "." in name]
    assert [part for part in parts if part in ENGINE] == []
    assert len(loaded) <= MOST, loaded
