"""The pipelines of the documentation: their shell parts, with a real buildah and registry.

What only a runner does is done here: expressions, artifacts, a new directory for each job.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from attrs import frozen

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.testing import make_image, make_index, upload
from tests.programs import ROOT, environment, write_program
from tests.redis_servers import redis_server
from tests.servers import (
    TOKEN_PASSWORD,
    TOKEN_USER,
    RealRegistry,
    docker_registry,
    require,
)

RECIPES = ROOT / "docs" / "examples" / "ci"
INSTALL = 'install "pubtools-mlmerge[lock]"'
BASH = ("bash", "-eo", "pipefail")
ARCHITECTURES = ("amd64", "arm64")
OLD = [make_image(f"linux/{name}", seed="old") for name in ("amd64", "s390x")]


def load(name: str) -> Mapping[str, object]:
    found = yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def at(value: object, *path: str | int) -> object:
    """Take a value out of a document."""
    for part in path:
        assert isinstance(value, (dict, list))
        value = value[part]  # type: ignore[index]  # a name or a number, as the document has it
    return value


def texts(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(each) for each in value]


def pairs(value: object) -> dict[str, str]:
    assert isinstance(value, dict)
    return {str(name): str(each) for name, each in value.items()}


@frozen
class Place:
    """A registry that wants a login, and an environment for the jobs."""

    registry: RealRegistry
    directory: Path
    lock: str

    @property
    def image(self) -> str:
        return f"{self.registry.host}/team/app"

    def runner(self, name: str, **variables: str) -> Runner:
        """Begin a job in a directory of its own, where no other job has logged in."""
        directory = self.directory / name
        directory.mkdir()
        base = "FROM --platform=linux/{} scratch\nCOPY Containerfile /\n"
        text = base.format(variables.get("ARCH", "amd64"))
        (directory / "Containerfile").write_text(text, encoding="utf-8")
        return Runner(self, directory, variables)

    def read(self, tag: str) -> Index:
        client = RegistryClient(
            self.registry.url,
            username=TOKEN_USER,
            password=TOKEN_PASSWORD,
            options=ConnectOptions(ca_bundle=str(self.registry.ca_file)),
        )
        return client.pull_index(Reference.parse(f"{self.image}:{tag}"))


@frozen
class Runner:
    """What runs a job."""

    place: Place
    directory: Path
    variables: Mapping[str, str]

    def run(self, code: str, *arguments: str, program: Sequence[str] = BASH) -> None:
        """Run the shell part of a job."""
        storage, authority = self.directory / "storage.conf", str(self.place.registry.ca_file)
        parts = ('driver = "vfs"', f'graphroot = "{storage}.d"', f'runroot = "{storage}.run"')
        storage.write_text("\n".join(["[storage]", *parts]), encoding="utf-8")
        own = environment(
            **self.variables,
            HOME=str(self.directory),
            XDG_RUNTIME_DIR=str(self.directory),
            CONTAINERS_STORAGE_CONF=str(storage),
            BUILDAH_ISOLATION="chroot",
            SSL_CERT_FILE=authority,
            REQUESTS_CA_BUNDLE=authority,
            PYTHONPATH=str(ROOT),
        )
        own["PATH"] = f"{self.place.directory / 'bin'}:{own['PATH']}"
        done = subprocess.run(
            [*program, "-c", code, "script", *arguments],
            cwd=self.directory,
            env=own,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Hold an old image, and offer the program as an installation would."""
    require("buildah")
    programs = tmp_path / "bin"
    programs.mkdir()
    installed = f"{shlex.quote(sys.executable)} -m pubtools_mlmerge"
    lines = {"pubtools-mlmerge": f'exec {installed} "$@"', "python3": f'exec {sys.executable} "$@"'}
    for name in ("pip", "pipx"):  # the package is installed by the tests of the distributions
        lines[name] = f'[ "$*" = {shlex.quote(" ".join(shlex.split(INSTALL)))} ]'
    for name, line in lines.items():
        write_program(programs / name, line)
    (tmp_path / "redis").mkdir()
    (tmp_path / "registry").mkdir()
    with (
        redis_server(tmp_path / "redis") as redis,
        docker_registry(tmp_path / "registry", tls=True, passwords=True) as registry,
    ):
        upload(
            registry.url,
            "team/app",
            make_index(OLD),
            reference="stable",
            credentials=(TOKEN_USER, TOKEN_PASSWORD),
            verify=str(registry.ca_file),
        )
        yield Place(registry, tmp_path, f"redis://127.0.0.1:{redis.port}")


def check(place: Place, records: Path) -> None:
    """Require the new images beside the old s390x, and one record of the change."""
    found = {str(entry.slot): entry.digest for entry in place.read("stable").manifests}
    assert set(found) == {"linux/amd64", "linux/arm64", "linux/s390x"}
    assert found["linux/s390x"] == OLD[1].digest
    assert found["linux/amd64"] != OLD[0].digest
    assert len(list(records.glob("*.json"))) == 1


def test_gitlab(place: Place) -> None:
    recipe = load("gitlab-ci.yml")
    given = {
        "CI_REGISTRY": place.registry.host,
        "CI_REGISTRY_IMAGE": place.image,
        "CI_REGISTRY_USER": TOKEN_USER,
        "CI_REGISTRY_PASSWORD": TOKEN_PASSWORD,
        "CI_PIPELINE_ID": "7",
        "MLMERGE_LOCK": place.lock,
    }

    def run(job: str, **variables: str) -> Path:
        own = {**pairs(recipe["variables"]), **variables}
        values = {name: string.Template(value).substitute(given) for name, value in own.items()}
        runner = place.runner("-".join([job, *variables.values()][:2]), **given, **values)
        runner.run("\n".join(texts(at(recipe, job, "script"))))
        return runner.directory

    assert texts(at(recipe, "build", "parallel", "matrix", 0, "ARCH")) == [*ARCHITECTURES]
    for architecture in ARCHITECTURES:
        run("build", ARCH=architecture)
    directory = run("merge", **pairs(at(recipe, "merge", "variables")))

    (records,) = texts(at(recipe, "merge", "artifacts", "paths"))
    check(place, directory / records)


def test_github(place: Place) -> None:
    recipe = load("github.yml")
    given = {
        "github.repository": "team/app",
        "github.run_id": "7",
        "github.actor": TOKEN_USER,
        "github.token": TOKEN_PASSWORD,
        "secrets.MLMERGE_LOCK": place.lock,
    }
    artifacts: dict[str, Path] = {}

    def run(job: str, matrix: Mapping[str, str]) -> None:
        known = {**given, **{f"matrix.{name}": value for name, value in matrix.items()}}

        def filled(value: object) -> str:
            text = re.sub(r"\$\{\{ (\S+) \}\}", lambda found: known[found[1]], str(value))
            return text.replace("ghcr.io", place.registry.host)

        env = {**pairs(recipe["env"]), **pairs(at(recipe, "jobs", job, "env"))}
        values = {name: filled(value) for name, value in env.items()}
        runner = place.runner("-".join([job, *matrix.values()][:2]), **values)
        steps = at(recipe, "jobs", job, "steps")
        assert isinstance(steps, list)
        for step in steps:
            if "run" in step:
                runner.run(str(step["run"]))
            elif str(step["uses"]).startswith("actions/upload-artifact@"):
                artifacts[filled(step["with"]["name"])] = runner.directory / step["with"]["path"]
            elif str(step["uses"]).startswith("actions/download-artifact@"):
                for artifact in artifacts.values():
                    target = runner.directory / step["with"]["path"]
                    shutil.copytree(artifact, target, dirs_exist_ok=True)

    matrix = at(recipe, "jobs", "build", "strategy", "matrix", "include")
    assert isinstance(matrix, list)
    assert [each["arch"] for each in matrix] == [*ARCHITECTURES]
    for each in matrix:
        run("build", pairs(each))
    run("merge", {})

    check(place, artifacts["records"])


def test_tekton(place: Place) -> None:
    """A service account logs its pods in by a file, which is what a login by buildah writes."""
    recipe, images = load("tekton.yml"), [f"{place.image}:{name}" for name in ARCHITECTURES]
    for image, architecture in zip(images, ARCHITECTURES):
        builder = place.runner(f"build-{architecture}", ARCH=architecture, IMAGE=image)
        builder.run(f"{login(place)}\nbuildah build --tag $IMAGE .\nbuildah push $IMAGE")
    (step,) = [at(recipe, "spec", "steps", 0)]
    known = {
        "$(credentials.path)/.docker": str(place.directory / "credentials"),
        "$(params.IMAGE)": f"{place.image}:stable",
        "$(results.IMAGE_URL.path)": str(place.directory / "url"),
        "$(results.IMAGE_DIGEST.path)": str(place.directory / "digest"),
        "$(workspaces.records.path)": str(place.directory / "records"),
    }
    entries = at(step, "env")
    assert isinstance(entries, list)
    values = {each["name"]: known[each["value"]] for each in entries if "value" in each}
    assert [each["name"] for each in entries if each["name"] not in values] == ["MLMERGE_LOCK"]
    pod = place.runner("merge", **values, MLMERGE_LOCK=place.lock)
    (place.directory / "credentials").mkdir()
    pod.run(login(place, "--authfile $DOCKER_CONFIG/config.json"))

    assert at(step, "args") == ["$(params.IMAGES[*])"]
    pod.run(str(at(step, "script")), *images, program=["sh"])

    check(place, place.directory / "records")
    assert (place.directory / "digest").read_text() == place.read("stable").digest
    assert (place.directory / "url").read_text() == f"{place.image}:stable"


def login(place: Place, options: str = "") -> str:
    command = (
        f"buildah login {options} --username {TOKEN_USER} --password-stdin {place.registry.host}"
    )
    return f"echo {TOKEN_PASSWORD} | {command}"


def test_the_containerfile_is_one(tmp_path: Path) -> None:
    """A buildah without network reads it, on no base image and without what is run in that."""
    text = (RECIPES.parent / "Containerfile").read_text(encoding="utf-8")
    (run,) = re.findall(r"^RUN (.+)\n", text, re.MULTILINE)
    text = re.sub(r"^FROM .+", "FROM scratch", text, flags=re.MULTILINE)
    text = text.replace(f"RUN {run}\n", "")
    (tmp_path / "Containerfile").write_text(text, encoding="utf-8")
    config = json.loads(built(tmp_path))["OCIv1"]["config"]

    assert run == f"pip {INSTALL}".replace(" install", " install --no-cache-dir")
    assert (config["User"], config["Cmd"]) == ("1001", ["pubtools-mlmerge", "--help"])


def built(directory: Path) -> str:
    """Build an image, and return what buildah says of it."""
    options = ["--storage-driver", "vfs", "--root", f"{directory}/root", "--runroot"]
    buildah = [require("buildah"), *options, f"{directory}/run"]
    env = {**environment(HOME=str(directory)), "BUILDAH_ISOLATION": "chroot"}
    out = ""
    for arguments in (["build", "--tag", "b", str(directory)], ["inspect", "--type=image", "b"]):
        command = [*buildah, *arguments]
        out = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    return out
