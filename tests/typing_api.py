"""The public API as mypy sees it; nothing here is run."""

from __future__ import annotations

from collections.abc import Mapping

import pubtools_mlmerge
from pubtools_mlmerge import ManifestListMerger, RegistryClient
from pubtools_mlmerge.core.manifests import Descriptor, Index, digest_of
from pubtools_mlmerge.core.merge import merge, remove
from pubtools_mlmerge.core.plan import Entry, Fate, Plan, Policy, Report
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern, normalize_names
from pubtools_mlmerge.core.references import Reference, is_digest
from pubtools_mlmerge.errors import InvalidIndex, MergeError, MixedTypes, NotFound, RegistryError
from pubtools_mlmerge.merging.merger import Manifest, ManifestList, ManifestPlatform


def read(content: bytes, fields: Mapping[str, object]) -> tuple[Index, Index, Index]:
    stated = Index.from_bytes(content, "application/vnd.oci.image.index.v1+json")
    return stated, Index.from_bytes(content, media_type=None), Index.from_fields(fields)


def merge_and_remove(source: Index, destination: Index | None) -> Plan[Index]:
    policy = Policy(
        match="architecture",
        eligible=["arm64", PlatformPattern.parse("linux/*")],
        keep=("arm64",),
        drop={"s390x"},
        mixed_types="fail",
        single_image="wrap",
    )
    plan: Plan[Index] = merge(source, destination)
    plan = merge(source, destination, policy)
    return remove(plan.result, ["arm64"], allow_empty=True)


def use_the_public_names(source: str, destination: str) -> Plan[Index]:
    client: RegistryClient = pubtools_mlmerge.RegistryClient(
        "quay.io", username="user", password="password"
    )
    merger = ManifestListMerger(source, destination, host="quay.io")
    merger.set_quay_clients(client, client)
    merger.merge_manifest_lists()
    policy: Policy = pubtools_mlmerge.Policy(match="architecture")
    new: Index = pubtools_mlmerge.Index.from_fields({})
    with pubtools_mlmerge.RegistryClient() as own, client as opened:
        other: RegistryClient = opened
        other.pull(Reference.parse(source))
        reports: list[Report] = pubtools_mlmerge.merge_tags(
            [source, Reference.parse(source)],
            destination,
            client=own,
            source_client=other,
            policy=policy,
            dry_run=True,
            lock="file:///srv/locks",
            audit=None,
            copy="never",
        )
    entries: tuple[Entry, ...] = reports[0].entries
    assert entries
    version: str = pubtools_mlmerge.__version__
    assert version
    pubtools_mlmerge.absent  # type: ignore[attr-defined]  # noqa: B018 - no such name
    return pubtools_mlmerge.merge(new, None, policy)


def wrong(index: Index) -> None:
    Policy(match="os")  # type: ignore[arg-type]  # no such rule
    Policy(mixed_types="docker")  # type: ignore[arg-type]  # no such choice
    Policy("platform")  # type: ignore[call-arg]  # by keyword only
    remove(index, ["arm64"], True)  # type: ignore[call-arg]  # by keyword only
    RegistryClient("quay.io", "user", "password")  # type: ignore[call-arg]  # logins by name
    merge(None, index)  # type: ignore[arg-type]  # a merge has a source


def look(plan: Plan[Index]) -> tuple[bool, tuple[str, ...], tuple[Descriptor, ...]]:
    first: Entry = plan.entries[0]
    fate: Fate = first.fate
    before: str | None = first.previous_digest
    assert fate + first.reason + (before or "")
    return plan.changed, plan.missing, plan.taken


def look_closer(index: Index) -> tuple[bytes, str, str, Mapping[str, object]]:
    return index.content, index.media_type, index.digest, index.fields


def look_at_an_entry(entry: Descriptor) -> tuple[str, str, int, bool, Mapping[str, object]]:
    return entry.media_type, entry.digest, entry.size, entry.is_index, entry.fields


def look_at_its_place(entry: Descriptor) -> tuple[Platform | None, Platform | None, str | None]:
    return entry.platform, entry.slot, entry.attested


def name(text: str, content: bytes) -> str:
    reference: Reference = Reference.parse(text).tagged("1").at(digest_of(content))
    parts: tuple[str, str, str, str] = (
        reference.host,
        reference.repository,
        reference.tag,
        reference.digest,
    )
    known: bool = is_digest(reference.target)
    return f"{reference.name} {parts} {known} {reference}"


def choose(pattern: PlatformPattern) -> bool:
    names: tuple[str, str] = normalize_names("x86_64", variant="v1")
    return pattern.matches(Platform("linux", *names, os_features=["a"]).normalized())


def handle(error: MergeError) -> str | int | None:
    if isinstance(error, InvalidIndex):
        as_value_error: ValueError = error
        return f"{error.path} {error.problem} {error.reference} {as_value_error}"
    if isinstance(error, MixedTypes):
        return ", ".join(error.docker + error.oci)
    if isinstance(error, NotFound):
        as_registry_error: RegistryError = error
        return as_registry_error.status
    return error.message if isinstance(error, RegistryError) else str(error)


def merge_dicts(merger: ManifestListMerger, source: ManifestList) -> ManifestList:
    platform: ManifestPlatform = {"architecture": "arm", "os": "linux", "variant": "v7"}
    partial: ManifestList = {"manifests": [{"platform": platform}]}
    missing: list[Manifest] = ManifestListMerger.get_missing_architectures(source, partial)
    assert not missing or missing[0]["platform"]["architecture"] == "arm"
    names: list[str] = ["arm64"]
    merger.merge_manifest_lists_selected_architectures(names)
    return merger.merge_manifest_lists_selected_architectures([*names, "", None])


def merge_wrong_dicts(merger: ManifestListMerger, source: ManifestList) -> None:
    wrong: Manifest = {"digest": 1}  # type: ignore[typeddict-item]  # a string
    merger.get_missing_architectures(source, wrong)  # type: ignore[arg-type]  # an entry
    merger.get_missing_architectures(source, {"manifests": {}})  # type: ignore[typeddict-item]  # a list
    merger.merge_manifest_lists_selected_architectures([1])  # type: ignore[list-item]  # names
