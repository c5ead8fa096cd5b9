"""The host's objects as far as we look at them; the host itself is untyped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypedDict

from pubtools_mlmerge.registry.base import ManifestClient


class _Requests(Protocol):
    verify: bool | str


class _Session(Protocol):
    hostname: str
    session: _Requests


class HostClient(ManifestClient, Protocol):
    """The host's Quay client, with how it connects."""

    username: str | None
    password: str | None
    session: _Session


class Pusher(Protocol):
    """The host's pusher."""

    quay_host: str
    target_settings: dict[str, object]
    src_quay_client: HostClient
    dest_quay_client: HostClient

    def run_tag_images(
        self,
        source_ref: str,
        dest_refs: list[str],
        all_arch: bool,  # noqa: FBT001 - the host's signature
        target_settings: dict[str, object],
    ) -> None:
        """Copy a reference to others."""


class HostTask(Protocol):
    """The host's workers, push-docker's and tag-docker's."""

    quay_host: str
    task_id: str
    dest_registries: list[str]
    target_settings: dict[str, object]


class Metadata(TypedDict, total=False):
    """What the host keeps about a push item."""

    pull_url: str
    tags: Mapping[str, Sequence[str]]
    build: Mapping[str, object]
    archs: Sequence[str]
    exclude_archs: bool
    tag_source: str
    mlmerge: object


class PushItem(Protocol):
    """The host's push item."""

    claims_signing_key: str | None
    metadata: Metadata
    repos: Mapping[str, object]
