"""The names that the package itself exports, each loaded when it is first used."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

import pubtools_mlmerge
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.merging.merger import ManifestListMerger
from tests.programs import python


def test_the_public_names_are_those_of_their_modules() -> None:
    assert pubtools_mlmerge.ManifestListMerger is ManifestListMerger
    assert pubtools_mlmerge.merge is merge
    assert pubtools_mlmerge.__version__ == metadata.version("pubtools-mlmerge")


@pytest.mark.parametrize("name", pubtools_mlmerge.__all__)
def test_each_public_name_can_be_imported_and_is_listed(name: str) -> None:
    assert python(f"from pubtools_mlmerge import {name}").code == 0
    assert name in dir(pubtools_mlmerge)


def test_importing_the_package_loads_no_module_of_it() -> None:
    code = "import sys, json, pubtools_mlmerge; print(json.dumps(sorted(sys.modules)))"

    loaded = json.loads(python(code).out)

    assert [name for name in loaded if name.startswith("pubtools_mlmerge")] == ["pubtools_mlmerge"]


def test_modules_and_public_names_do_not_hide_each_other() -> None:
    code = (
        "from pubtools_mlmerge import merge, hookspecs, merging\n"
        "import pubtools_mlmerge.core.merge\n"
        "from pubtools_mlmerge import merge as again\n"
        "print(merge is again, callable(merge), hookspecs.__name__, merging.__name__)"
    )

    assert python(code).out.split() == [
        *("True", "True", "pubtools_mlmerge.hookspecs", "pubtools_mlmerge.merging")
    ]


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = pubtools_mlmerge.absent  # type: ignore[attr-defined]  # that is the point


def test_a_program_that_set_up_no_logging_gets_no_lines() -> None:
    done = python(
        "import logging\n"
        "from pubtools_mlmerge import RegistryClient\n"
        "logging.getLogger('pubtools.mlmerge').warning('not for the screen')"
    )

    assert (done.code, done.out, done.err) == (0, "", "")
