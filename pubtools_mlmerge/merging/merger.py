"""The public class, a drop-in replacement of the host's class of the same name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial

from pubtools_mlmerge.core.manifests import DOCKER_LIST, Index
from pubtools_mlmerge.core.merge import assemble, check_shrink, merge
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotFound, Unauthorized
from pubtools_mlmerge.merging.image_ages import MergeFunction
from pubtools_mlmerge.merging.step import both, intend, recorded, share_no_connection
from pubtools_mlmerge.merging.writer import push
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.registry.adapter import ClientRegistry, http_errors
from pubtools_mlmerge.registry.base import ManifestClient, Registry
from pubtools_mlmerge.registry.client import RegistryClient

LOG = logging.getLogger("pubtools.mlmerge")

_NO_CLIENT = "QuayClient instance must be set for both source and dest images"


class ManifestListMerger:
    """Merges the manifest lists (or OCI indexes) of two images.

    Args:
        src_image (str):
            Reference of the newer image.
        dest_image (str):
            Reference of the image that is merged into.
        src_quay_host (str | None):
            Where to connect for the source; none for ``host``.
        src_quay_username (str | None):
            User name for the source; none if clients will be set.
        src_quay_password (str | None):
            Password for the source.
        dest_quay_username (str | None):
            User name for the destination; none if clients will be set.
        dest_quay_password (str | None):
            Password for the destination.
        host (str | None):
            Where to connect; none for the client's default.
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
        self._src_quay_client = _build_client(
            src_quay_username, src_quay_password, src_quay_host or host
        )
        self._dest_quay_client = _build_client(dest_quay_username, dest_quay_password, host)

    def set_quay_clients(
        self, src_quay_client: ManifestClient, dest_quay_client: ManifestClient
    ) -> None:
        """Set the clients to use.

        Args:
            src_quay_client (QuayClient):
                Reads the source.
            dest_quay_client (QuayClient):
                Reads and writes the destination.
        """
        self._src_quay_client = src_quay_client
        self._dest_quay_client = dest_quay_client

    def merge_manifest_lists(self) -> None:
        """Merge the source into the destination, and upload the result unless nothing changes.

        Raises:
            RuntimeError: When no clients are set.
            requests.exceptions.HTTPError: When a registry refuses, also when the destination does
                not exist.
            MergeError: When a document breaks a rule, or either image is no index.
        """
        source, destination = self._registries()
        image, into = Reference.parse(self.src_image), Reference.parse(self.dest_image)
        with observed("merge", image, into) as seen, http_errors():
            intend(source, image, destination, into)
            new, old = both(
                lambda: recorded(source.pull_index, image),
                lambda: recorded(destination.pull_index, into),
                at_once=share_no_connection(source, destination),
            )
            plan = merge(new, old)
            if plan.changed:
                push(destination, into, plan.result)
            seen.report = Report.of(plan, image, into, seconds=seen.seconds)

    @staticmethod
    def get_missing_architectures(
        src_manifest_list: Mapping[str, object], dest_manifest_list: Mapping[str, object]
    ) -> list[dict[str, object]]:
        """List what only the destination has.

        Args:
            src_manifest_list (dict):
                Manifest list of the source.
            dest_manifest_list (dict):
                Manifest list of the destination.

        Returns:
            list[dict]: Entries of the destination, as copies.

        Raises:
            MergeError: When either is no manifest list.
        """
        source = Index.from_fields(src_manifest_list)
        plan = merge(source, Index.from_fields(dest_manifest_list))
        return [deepcopy(dict(e.descriptor.fields)) for e in plan.entries if e.fate == "kept"]

    def _add_missing_architectures(
        self, src_manifest_list: Mapping[str, object], missing_archs: Sequence[object]
    ) -> dict[str, object]:
        """Put entries behind those of the source."""
        added = Index.from_fields(
            {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": list(missing_archs)}
        )
        source = Index.from_fields(src_manifest_list)
        if not added.manifests:
            return _document(source)
        manifests = [*source.manifests, *added.manifests]
        return _document(assemble(source, added, manifests, Policy()))

    def merge_manifest_lists_selected_architectures(
        self, eligible_archs: Sequence[str]
    ) -> dict[str, object]:
        """Merge only some architectures of the source; nothing is uploaded.

        Args:
            eligible_archs (list[str]):
                Architectures (``arm64``) or platforms (``linux/arm/v7``) to take.

        Returns:
            dict: The new manifest list.

        Raises:
            RuntimeError: When no clients are set.
            requests.exceptions.HTTPError: When a registry refuses; a destination that does not
                exist is fine.
            MergeError: When a document breaks a rule, or either image is no index.
        """
        return _document(self.plan_selected(Policy(eligible=eligible_archs)).result)

    def plan_selected(self, policy: Policy, merging: MergeFunction | None = None) -> Plan[Index]:
        """Plan a merge of what a policy makes eligible; nothing is uploaded.

        Args:
            policy (Policy):
                What may be taken from the source, and what to decide differently.
            merging (Callable[[Index, Index | None, Policy], Plan[Index]] | None):
                Merges what was read; none for `merge`.

        Returns:
            Plan[Index]: The plan.

        Raises:
            RuntimeError: When no clients are set.
            requests.exceptions.HTTPError: When a registry refuses; a destination that does not
                exist is fine.
            MergeError: When a document breaks a rule, or either image is no index.
        """
        source, destination = self._registries()
        into = Reference.parse(self.dest_image)
        with http_errors():
            new = recorded(source.pull_index, Reference.parse(self.src_image))
            old = recorded(partial(_pull_if_present, destination), into)
        plan = (merging or merge)(new, old, policy)
        check_shrink(into, old, plan, policy)
        for name in plan.missing:
            LOG.warning("%s: the source has no %s", self.src_image, name)
        return plan

    def _registries(self) -> tuple[Registry, Registry]:
        if not self._src_quay_client or not self._dest_quay_client:
            raise RuntimeError(_NO_CLIENT)
        return _registry(self._src_quay_client), _registry(self._dest_quay_client)


def _build_client(
    username: str | None, password: str | None, host: str | None
) -> ManifestClient | None:
    if not username or not password:
        return None
    try:
        # The host is optional, and takes long to load.
        from pubtools._quay.quay_client import (  # noqa: PLC0415
            QuayClient as HostClient,
        )
    except ImportError:
        return RegistryClient(username, password, host)
    client: ManifestClient = HostClient(username, password, host)
    return client


def _registry(client: ManifestClient) -> Registry:
    return client if isinstance(client, RegistryClient) else ClientRegistry(client)


def _pull_if_present(registry: Registry, reference: Reference) -> Index | None:
    try:
        return registry.pull_index(reference)
    except (NotFound, Unauthorized):
        return None


def _document(index: Index) -> dict[str, object]:
    return deepcopy({**index.fields, "mediaType": index.media_type})
