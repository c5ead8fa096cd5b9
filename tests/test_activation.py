"""Activation: whether anything speaks of merging."""

from __future__ import annotations

import os

import pytest

from pubtools_mlmerge.host.seams import is_mentioned


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLMERGE_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("settings", [{}, {"mlmerge": None}, {"mlmerge": {}}, {"quay_host": "q"}])
def test_nothing_speaks_of_it(settings: dict[str, object]) -> None:
    assert not is_mentioned(settings)


@pytest.mark.parametrize("mlmerge", [{"steps": []}, "wrong"])
def test_the_target_speaks_of_it(mlmerge: object) -> None:
    assert is_mentioned({"mlmerge": mlmerge})


def test_the_environment_speaks_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLMERGE_STEPS", "push")

    assert is_mentioned({})
