"""The public class, a drop-in replacement of the host's class of the same name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import TypedDict

from pubtools_mlmerge.core.manifests import DOCKER_LIST, Image, Index, read_partial
from pubtools_mlmerge.core.merge import assemble, merge
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidIndex, InvalidPlatform, NotFound, Unauthorized
from pubtools_mlmerge.merging.image_ages import MergeFunction
from pubtools_mlmerge.merging.step import intend, judge, pull_both, recorded
from pubtools_mlmerge.merging.writer import push
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.registry.adapter import ClientRegistry, http_errors
from pubtools_mlmerge.registry.base import ManifestClient, Registry
from pubtools_mlmerge.registry.client import RegistryClient

LOG = logging.getLogger("pubtools.mlmerge")

_NO_CLIENT = "QuayClient instance must be set for both source and dest images"

ManifestPlatform = TypedDict(
    "ManifestPlatform",
    {
        "architecture": str,
        "os": str,
        "os.version": str,
        "os.features": list[str],
        "variant": str,
        "features": list[str],
    },
    total=False,
)
"""Platform of an entry. Only the architecture is needed."""


class Manifest(TypedDict, total=False):
    """Entry of a manifest list. Only the platform is needed."""

    mediaType: str
    size: int
    digest: str
    platform: ManifestPlatform
    annotations: dict[str, str]


class ManifestList(TypedDict, total=False):
    """Manifest list or OCI index. Only the manifests are needed."""

    schemaVersion: int
    mediaType: str
    manifests: list[Manifest]
    annotations: dict[str, str]


class ManifestListMerger:
    """Merges the manifest lists (or OCI indexes) of two images.

    Args:
        src_image (str): Reference of the newer image.
        dest_image (str): Reference of the image to merge into.
        src_quay_host (str | None): Where to connect for the source; by default ``host``.
        src_quay_username (str | None):
            User name for the source; left out where clients will be set.
        src_quay_password (str | None): Password for the source.
        dest_quay_username (str | None):
            User name for the destination; left out where clients will be set.
        dest_quay_password (str | None): Password for the destination.
        host (str | None): Where to connect; by default what the client chooses.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the host's signature
        self,
        src_image: str,
        dest_image: str,
        src_quay_host: str | None = None,
        src_quay_username: str | None = None,
        src_quay_password: str | None = None,
        dest_quay_username: str | None = None,
        dest_quay_password: str | None = None,
        host: str | None = None,
    ) -> None:
        self.src_image = src_image
        self.dest_image = dest_image
        login = (src_quay_username, src_quay_password, src_quay_host or host)
        dest_login = (dest_quay_username, dest_quay_password, host)
        self._src_quay_client = _build_client(*login)
        # With the same login, one client saves a handshake and a token.
        is_same = dest_login == login
        self._dest_quay_client = self._src_quay_client if is_same else _build_client(*dest_login)

    def set_quay_clients(
        self, src_quay_client: ManifestClient, dest_quay_client: ManifestClient
    ) -> None:
        """Set the clients to use."""
        self._src_quay_client = src_quay_client
        self._dest_quay_client = dest_quay_client

    def merge_manifest_lists(self) -> None:
        """Merge the source into the destination and upload the result, if it changes anything.

        Raises:
            RuntimeError: When no clients are set.
            requests.exceptions.HTTPError: When a registry refuses, or the destination does not
                exist.
            MergeError: When a document breaks a rule, or either image is not an index.
        """
        source, destination = self._registries()
        image, into = Reference.parse(self.src_image), Reference.parse(self.dest_image)
        with observed("merge", image, into) as seen, http_errors():
            intend(source, (image,), destination, into)
            new, old = pull_both(
                *(source, partial(recorded, source.pull_index, image)),
                *(destination, partial(recorded, destination.pull_index, into)),
            )
            plan = merge(new, old)
            judge(into, plan, Policy())
            if plan.changed:
                push(destination, into, plan.result)
            seen.report = Report.of(plan, image, into, seconds=seen.seconds)

    @staticmethod
    def get_missing_architectures(
        src_manifest_list: ManifestList, dest_manifest_list: ManifestList
    ) -> list[Manifest]:
        """List the entries for platforms that only the destination has.

        Returns:
            list[Manifest]: Entries of the destination, as copies.

        Raises:
            MergeError: When either is not a manifest list.
        """
        destination = read_partial(dest_manifest_list)
        plan = merge(read_partial(src_manifest_list), destination)
        kept = [entry.descriptor for entry in plan.entries if entry.fate == "kept"]
        return _document(destination.with_manifests(kept, destination.media_type))["manifests"]

    def _add_missing_architectures(
        self, src_manifest_list: ManifestList, missing_archs: Sequence[Manifest]
    ) -> ManifestList:
        """Add entries after those of the source."""
        source = read_partial(src_manifest_list)
        added = read_partial({"mediaType": DOCKER_LIST, "manifests": list(missing_archs)})
        if not added.manifests:
            return _document(source)
        manifests = [*source.manifests, *added.manifests]
        return _document(assemble([source, added], manifests, Policy()))

    def merge_manifest_lists_selected_architectures(
        self, eligible_archs: Iterable[str | None]
    ) -> ManifestList:
        """Merge only some architectures of the source; nothing is uploaded.

        Args:
            eligible_archs (list[str]):
                Architectures (``arm64``) or platforms (``linux/arm/v7``) to take. Anything else,
                ``None`` included, matches nothing.

        Returns:
            ManifestList: The new manifest list.

        Raises:
            RuntimeError: When no clients are set.
            requests.exceptions.HTTPError: When a registry refuses. The destination need not exist.
            MergeError: When a document breaks a rule, or either image is not an index.
        """
        policy = Policy(eligible=_eligible(eligible_archs))
        return _document(self.plan_selected(policy).result)

    def plan_selected(self, policy: Policy, merging: MergeFunction | None = None) -> Plan[Index]:
        """Plan a merge of what a policy makes eligible, for tag-docker; nothing is uploaded."""
        source, destination = self._registries(_LenientRegistry)
        into = Reference.parse(self.dest_image)
        with http_errors():
            new = recorded(source.pull_index, Reference.parse(self.src_image))
            old = recorded(partial(_pull_if_present, destination), into)
        plan = (merging or merge)(new, old, policy)
        judge(into, plan, policy)
        for name in plan.missing:
            LOG.warning("%s: the source has no %s", self.src_image, name)
        return plan

    def _registries(self, kind: type[ClientRegistry] = ClientRegistry) -> tuple[Registry, Registry]:
        source, destination = self._src_quay_client, self._dest_quay_client
        if not source or not destination:
            raise RuntimeError(_NO_CLIENT)
        return (
            source if isinstance(source, RegistryClient) else kind(source),
            destination if isinstance(destination, RegistryClient) else kind(destination),
        )


def _eligible(names: Iterable[str | None]) -> tuple[PlatformPattern, ...]:
    """Parse names as the host's class takes them: one that means nothing matches nothing."""
    names = [names] if isinstance(names, str) else names
    return tuple(_pattern(str(name)) for name in names if name)


def _pattern(name: str) -> PlatformPattern:
    if name.split() == [name]:
        with suppress(InvalidPlatform):
            return PlatformPattern.parse(name)
    return PlatformPattern(name, os="")  # no platform has an empty os


def _build_client(
    username: str | None, password: str | None, host: str | None
) -> ManifestClient | None:
    if not username or not password:
        return None
    try:
        from pubtools._quay.quay_client import QuayClient  # noqa: PLC0415 - optional and slow
    except ImportError:
        return RegistryClient(host, username=username, password=password)
    client: ManifestClient = QuayClient(username, password, host)
    return client


class _LenientRegistry(ClientRegistry):
    """A client that may answer with dicts of partial entries, as stand-ins in tests do."""

    def _read(
        self, reference: Reference, body: object, headers: Mapping[str, str]
    ) -> Index | Image:
        try:
            return super()._read(reference, body, headers)
        except InvalidIndex:
            if isinstance(body, Mapping):
                with suppress(InvalidIndex):
                    return read_partial(body)
            raise


def _pull_if_present(registry: Registry, reference: Reference) -> Index | None:
    try:
        return registry.pull_index(reference)
    except (NotFound, Unauthorized):
        return None


def _document(index: Index) -> ManifestList:
    document: ManifestList = {**index.fields, "mediaType": index.media_type}  # type: ignore[typeddict-item]  # unknown fields are carried
    return deepcopy(document)
