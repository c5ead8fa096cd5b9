"""The hooks that we offer."""

from __future__ import annotations

import inspect

import pytest
from pubtools.pluggy import pm

from pubtools_mlmerge import hookspecs

HOOKS = {
    "mlmerge_merge": ["request"],
    "mlmerge_merge_selected": ["request"],
    "mlmerge_merged": ["report"],
    "mlmerge_lock": ["reference"],
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_declared_with_its_arguments(name: str) -> None:
    assert list(inspect.signature(getattr(hookspecs, name)).parameters) == HOOKS[name]
    assert hasattr(pm.hook, name)


def test_all_hooks_bear_our_name() -> None:
    functions = inspect.getmembers(hookspecs, inspect.isfunction)
    ours = {name for name, function in functions if function.__module__ == hookspecs.__name__}

    assert ours == set(HOOKS)
