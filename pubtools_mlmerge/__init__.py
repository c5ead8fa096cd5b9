"""Merge manifest lists, so that a tag keeps its architectures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pubtools_mlmerge.core.manifests import Index
    from pubtools_mlmerge.core.merge import merge
    from pubtools_mlmerge.core.plan import Policy, Report
    from pubtools_mlmerge.errors import MergeError
    from pubtools_mlmerge.merging.api import merge_tags
    from pubtools_mlmerge.merging.merger import ManifestListMerger
    from pubtools_mlmerge.registry.client import RegistryClient

    __version__: str

__all__ = [
    "Index",
    "ManifestListMerger",
    "MergeError",
    "Policy",
    "RegistryClient",
    "Report",
    "__version__",
    "merge",
    "merge_tags",
]

_MODULES = {
    "Index": "core.manifests",
    "ManifestListMerger": "merging.merger",
    "MergeError": "errors",
    "Policy": "core.plan",
    "RegistryClient": "registry.client",
    "Report": "core.plan",
    "merge": "core.merge",
    "merge_tags": "merging.api",
}


if not TYPE_CHECKING:  # else a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used: every pubtools task imports this package."""
        if name == "__version__":
            value: object = import_module("importlib.metadata").version("pubtools-mlmerge")
        elif name in _MODULES:
            value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
