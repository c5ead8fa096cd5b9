"""The hooks that we offer."""

from __future__ import annotations

import inspect

from pubtools.pluggy import pm

from pubtools_mlmerge import hookspecs


def test_the_hooks_are_declared_with_their_arguments() -> None:
    functions = inspect.getmembers(hookspecs, inspect.isfunction)
    declared = {
        name: list(inspect.signature(function).parameters)
        for name, function in functions
        if function.__module__ == hookspecs.__name__
    }

    assert declared == {
        "mlmerge_merge": ["request"],
        "mlmerge_merge_selected": ["request"],
        "mlmerge_merged": ["report"],
        "mlmerge_lock": ["reference"],
    }
    assert all(hasattr(pm.hook, name) for name in declared)
