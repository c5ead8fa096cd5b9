"""Logins as real programs leave them, on a real registry that wants a password."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pubtools_mlmerge.testing import make_image, make_index, upload
from tests.programs import environment, run_here, write_program
from tests.servers import TOKEN_PASSWORD, TOKEN_USER, RealRegistry, docker_registry, require

INDEX = make_index([make_image()])
HELPER = f"""
read server
echo "$server" >"$0.asked"
echo '{{"Username": "{TOKEN_USER}", "Secret": "{TOKEN_PASSWORD}"}}'
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with docker_registry(tmp_path_factory.mktemp("htpasswd"), passwords=True) as running:
        login = (TOKEN_USER, TOKEN_PASSWORD)
        upload(running.url, "team/app", INDEX, reference="1", credentials=login)
        yield running


@pytest.mark.parametrize("place", ["", "/team", "/team/app"])
@pytest.mark.parametrize("program", ["skopeo", "buildah"])
def test_who_logged_in_by_another_program_is_logged_in(
    program: str, place: str, registry: RealRegistry, tmp_path: Path
) -> None:
    """For the registry, a namespace or a repository, in the file that the program chose."""
    variables = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    options = ["--tls-verify=false", "--username", TOKEN_USER, "--password-stdin"]
    subprocess.run(
        [require(program), "login", *options, f"{registry.host}{place}"],
        env=environment(**variables),
        input=TOKEN_PASSWORD.encode(),
        check=True,
        capture_output=True,
    )

    done = run_here("inspect", f"{registry.host}/team/app:1", env=variables)

    assert INDEX.digest in done.out, done.err


def test_a_helper_on_the_path_logs_in(registry: RealRegistry, tmp_path: Path) -> None:
    """It is for docker and skopeo as well, and is asked in the same way."""
    helper = tmp_path / "docker-credential-tests"
    write_program(helper, HELPER)
    config = {"credHelpers": {registry.host: "tests"}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="ascii")
    path = f"{tmp_path}:{environment()['PATH']}"

    done = run_here(
        *("inspect", f"{registry.host}/team/app:1"),
        env={"DOCKER_CONFIG": str(tmp_path), "PATH": path},
    )

    assert INDEX.digest in done.out, done.err
    assert Path(f"{helper}.asked").read_text("ascii") == f"{registry.host}\n"
