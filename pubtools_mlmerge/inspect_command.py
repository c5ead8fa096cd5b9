"""What pubtools-mlmerge-inspect does, once its arguments are parsed."""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial

from attrs import define

from pubtools_mlmerge.arguments import connection_of, login_of, reference_of
from pubtools_mlmerge.commands import Manner, all_succeed
from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.core.ages import AgeRule
from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.plan import Age
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.outputs import Output, page_of
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.reports.html import Failure, PageInfo
from pubtools_mlmerge.reports.inspection import (
    Difference,
    Inspection,
    compare,
    difference_to_json,
    inspect,
    inspection_to_json,
)
from pubtools_mlmerge.reports.terminal import difference_text, inspection_text

LOG = logging.getLogger("pubtools.mlmerge")

_THREADS = 8  # requests at a time


def prepare_inspect(arguments: Namespace) -> Callable[[], bool]:
    """Prepare the display of an index.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Callable[[], bool]: Runs it, and tells whether all went well and nothing is missing.

    Raises:
        ValueError: When an argument is wrong.
    """
    options = connection_of(arguments)
    login = login_of(arguments, "source", arguments.source_quay_host or arguments.quay_host)
    reference = reference_of(arguments.reference, login)
    look = _Look(login.client(options), ages=arguments.ages, check=arguments.check)
    manner, is_json = Manner(debug=arguments.debug > 0), arguments.output == "json"
    if arguments.other:
        other = reference_of(arguments.other, login)
        if arguments.ages or arguments.check or arguments.output == "html":
            raise ValueError("--ages, --check and --output html are for one reference")
        difference = (str(reference), partial(look.at_both, reference, other))
        told = Output(difference_to_json if is_json else difference_text)
        return partial(all_succeed, [difference], told, manner)
    inspection = (str(reference), partial(look.at, reference))
    render = inspection_to_json if is_json else inspection_text
    shown: Output[Inspection] = Output(render, page_of(arguments, _page))
    return lambda: all_succeed([inspection], shown, manner) and not look.found_a_gap


@define(eq=False, repr=False)
class _Look:
    """Looks at indexes, and remembers whether something was missing."""

    client: RegistryClient
    ages: bool
    check: bool
    found_a_gap: bool = False

    def at(self, reference: Reference) -> Inspection:
        index = self.client.pull_index(reference)
        found = inspect(
            str(reference),
            index,
            self._ages(reference, index) if self.ages else None,
            self._missing(reference, index) if self.check else None,
        )
        if found.lacks_something:
            self.found_a_gap = True
            LOG.error("%s lists what is not in the repository", reference)
        return found

    def at_both(self, a: Reference, b: Reference) -> Difference:
        indexes = self.client.pull_index(a), self.client.pull_index(b)
        return compare((str(a), str(b)), indexes)

    def _ages(self, reference: Reference, index: Index) -> dict[str, Age]:
        return Ages(self.client, AgeRule(shown=True)).read(reference, index.manifests)

    def _missing(self, reference: Reference, index: Index) -> frozenset[str]:
        """Ask for each manifest by a HEAD request, attestations too."""
        digests = tuple(dict.fromkeys(entry.digest for entry in index.manifests))
        jobs = (partial(self.client.has_manifest, reference.at(digest)) for digest in digests)
        held = map_in_order(jobs, _THREADS)
        return frozenset(digest for digest, is_there in zip(digests, held) if not is_there)


def _page(told: Sequence[Inspection | Failure], making: PageInfo) -> str:
    # Many modules, for what is seldom asked for.
    from pubtools_mlmerge.reports.html import inspection_page  # noqa: PLC0415

    return inspection_page(told, making)
