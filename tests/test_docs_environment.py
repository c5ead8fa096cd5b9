"""The page on the environment has every variable that the package reads, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import pubtools_mlmerge
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.settings import Settings
from tests.pages import DOCS

PACKAGE = Path(pubtools_mlmerge.__file__).parent
PAGE = (DOCS / "environment.rst").read_text(encoding="utf-8")
# Read by the libraries and programs below.
READ_BY_OTHERS = {
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),  # requests
    *("NO_COLOR", "TERM", "COLUMNS"),  # rich
    *("HOME", "PATH", "TMPDIR"),  # Python
}
# Texts that look like variables and are none.
OTHER_NAMES = {"SIGNER_BY_LABEL", "ANCHOR_TAG"}
VARIABLE = re.compile(r"[A-Z][A-Z0-9]+(_[A-Z0-9]+)+")


def documented() -> set[str]:
    """Read the terms of the lists, and the settings, from the page."""
    terms = re.findall(r"^(``[A-Z_]+``(?:, ``[A-Z_]+``)*)$", PAGE, re.MULTILINE)
    return {name for term in terms for name in re.findall(r"``([A-Z_]+)``", term)}


def settings_variables() -> set[str]:
    names = {field.name for field in (*attrs.fields(Settings), *attrs.fields(Policy))}
    return {f"MLMERGE_{name.upper()}" for name in names - {"policy", "eligible"}}


def texts(path: Path) -> Iterator[str]:
    """Yield what strings of a module say, without docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def read_here() -> set[str]:
    """Find what looks like a variable in the package; the registry for tests reads none."""
    found = {text for path in PACKAGE.glob("*.py") for text in texts(path)}
    whole = {text for text in found if VARIABLE.fullmatch(text)}
    return {name for name in whole - OTHER_NAMES if not is_error_code(name)}


def is_error_code(name: str) -> bool:
    """Tell whether a registry answers with this."""
    return name.endswith(("_UNKNOWN", "_INVALID", "_IMMUTABLE", "_EXPIRED", "_EXISTS"))


def test_every_variable_that_is_read_is_documented() -> None:
    passwords = {"SOURCE_QUAY_PASSWORD", "DEST_QUAY_PASSWORD"}  # put together from two parts

    assert read_here() | passwords == documented() - READ_BY_OTHERS


def test_variables_of_other_programs_are_documented() -> None:
    assert documented() >= READ_BY_OTHERS


def test_every_setting_has_its_variable() -> None:
    listed = set(re.findall(r"^   (MLMERGE_\w+)=", PAGE, re.MULTILINE))

    assert listed == settings_variables()


@pytest.mark.parametrize("program", ["merge", "remove-archs", "restore"])
def test_the_page_says_which_program_takes_settings(program: str) -> None:
    assert f"* ``pubtools-mlmerge-{program}`` takes" in PAGE
