"""The tag-docker step: which platforms are added or removed, and how the tag is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Protocol

from attrs import define, evolve, field
from pubtools.pluggy import pm

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import Side
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError, InvalidPlatform, NestedIndex, StepNotDone
from pubtools_mlmerge.hooks import announce, lock_tags, plugins_named
from pubtools_mlmerge.host.clients import (
    HostClient,
    HostTask,
    PushItem,
    connect_like,
    history_of,
    internal_reference,
)
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.host.task import log_plan, summed_up
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import task_records
from pubtools_mlmerge.merging.decision import Decision
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import Writer, expiration_kept, push
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.registry.adapter import content_of
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.settings import ItemSettings, Settings, step_options

LOG = logging.getLogger("pubtools.mlmerge")


class TagTask(HostTask, Protocol):
    """The host's tag-docker."""

    @property
    def quay_client(self) -> HostClient:
        """The client of both tags."""


Choose = Callable[[Platform], bool]


def chosen_by(item: PushItem) -> Choose:
    """Return whether an item means images of a platform: it is named, or else not excluded."""
    patterns: list[PlatformPattern] = []
    for name in item.metadata["archs"]:
        try:
            patterns.append(PlatformPattern.parse(str(name)))
        except InvalidPlatform as error:  # what is no name means nothing, as in the host
            LOG.warning("%s is ignored: %s", name, error)
    excludes = bool(item.metadata["exclude_archs"])
    return lambda platform: excludes != any(each.matches(platform) for each in patterns)


def to_add(source: Index, is_chosen: Choose) -> list[str]:
    """Name the platforms of a source that are to be added."""
    slots = (slot for entry in source.manifests for slot in sorted(entry.slots, key=str))
    return list(dict.fromkeys(_name(slot) for slot in slots if is_chosen(slot)))


def to_remove(index: Index, source: Index | None, is_chosen: Choose) -> tuple[list[str], list[str]]:
    """Name the platforms to remove and those that stay.

    Where there is a source, only what it lists as well is removed. Such a platform is named with
    its digest, as the tag may get another image for it before the removal; so is one whose name
    fits what stays. It stays as well where its digest does, for another platform. An entry without
    a platform stays, named by an empty text; an attestation goes by its image.
    """
    images = {entry.digest for entry in index.manifests if entry.slots}
    known = None
    if source is not None:
        known = {(entry.digest, slot) for entry in source.manifests for slot in entry.slots}
    gone: list[tuple[str, Platform]] = []
    left: list[tuple[str, Platform]] = []
    for entry in index.manifests:
        for slot in sorted(entry.slots, key=str):
            is_gone = is_chosen(slot) and (known is None or (entry.digest, slot) in known)
            (gone if is_gone else left).append((entry.digest, slot))
    digests_left = {digest for digest, _ in left}
    names: list[str] = []
    for digest, slot in gone:
        name = _name(slot)
        fits_more = any(PlatformPattern.exact(name).matches(other) for _, other in left)
        if fits_more and digest in digests_left:
            LOG.warning("%s stays: %s is not all that has the name", name, digest)
            left.append((digest, slot))
            continue
        needs_digest = (known is not None or fits_more) and digest not in digests_left
        names.append(f"{name}@{digest}" if needs_digest else name)
    others = [e for e in index.manifests if not e.slots and e.attested not in images]
    return names, [*(_name(slot) for _, slot in left), *("" for _ in others)]


def _name(platform: Platform) -> str:
    """Name a platform as a pattern that fits it, with its version where one can be written."""
    with suppress(InvalidPlatform):
        if PlatformPattern.exact(platform.name).matches(platform):
            return platform.name
    return str(platform)


def _to_pattern(name: str) -> PlatformPattern:
    platform, _, digest = name.partition("@")
    return PlatformPattern.named(digest) if digest else PlatformPattern.exact(platform)


class TagDockerStep:
    """Merges in the tags of one tag-docker task."""

    def __init__(self, task: TagTask, settings: Settings, push_items: Iterable[PushItem]) -> None:
        self._settings = ItemSettings(settings, push_items)
        self._task = task
        self._client = connect_like(task.quay_client, settings)
        self._history = history_of(self._client, task.target_settings)
        self._reports: list[Report] = []
        self._seen: dict[Reference, str | None] = {}  # what tags held when that was decided on
        self.selection: Selection | None = None  # while a merge is under way

    @contextmanager
    def running(self) -> Iterator[None]:
        """Bracket a task: sum up at the end, and close the connections."""
        with closing(self._client), summed_up(self._reports):
            yield

    def _covers(self, item: PushItem) -> bool:
        return self._settings.of(item).covers(_repository(item))

    def writes(self, item: PushItem) -> bool:
        """Whether the step writes the tags of an item."""
        return self._covers(item) and not self._settings.of(item).report_only

    @staticmethod
    def is_relevant(item: PushItem, architecture: str) -> bool:
        """Whether an item means a single image; other spellings of the architecture count."""
        return chosen_by(item)(Platform("linux", architecture))

    def added(self, item: PushItem, tag: str) -> list[str] | None:
        """List the platforms that are to be added to a tag; None leaves that to the host."""
        source = self._read(item, item.metadata["tag_source"])
        if isinstance(source, Index):
            return to_add(source, chosen_by(item))
        # The host itself refuses a source that is absent or no index. But it does not
        # find an OCI tag on a registry that requires its type in Accept, and would replace it.
        held = None if source is None else self._look(item, tag)
        if source is not None and held is not None and held.media_type != source.media_type:
            from pubtools._quay.exceptions import BadPushItem  # noqa: PLC0415 - the host

            problem = f"it holds {held.media_type}, and the source {source.media_type}"
            destination = self._reference(item, tag)
            raise BadPushItem(f"{destination}: {problem}; add tags of one type only")
        return None

    def removed(self, item: PushItem, tag: str) -> tuple[list[str], list[str]] | None:
        """List the platforms to remove from a tag, and those that stay; None as in `added`."""
        held, name = self._look(item, tag), item.metadata["tag_source"]
        source = self._read(item, name) if name else None
        if not isinstance(held, Index) or (name and not isinstance(source, Index)):
            return None
        return to_remove(held, source if isinstance(source, Index) else None, chosen_by(item))

    def merge(
        self, item: PushItem, tag: str, names: Sequence[str], host: Callable[[], object]
    ) -> None:
        """Let the host merge and sign, with a list and an upload of ours."""
        if not self._covers(item):
            host()
            return
        settings = self._settings.of(item)
        source = self._reference(item, item.metadata["tag_source"])
        destination = self._reference(item, tag)
        select = partial(Selection, settings, self._client, source, destination, self._history)
        if settings.report_only:
            select().report_only(names)
            host()
            return
        lock = lock_tags([[str(destination)]], settings.lock, settings.lock_aliases)
        with lock as (check,), observed("merge", source, destination) as seen:
            for number in range(1, settings.tries + 1):
                selection = self.selection = select(check)
                try:
                    host()
                    break
                except ConflictError as error:  # the host signed a list that is out of date
                    if number == settings.tries:
                        raise
                    LOG.info("Starting again: %s", error)
                finally:
                    self.selection = None
            seen.report = report = selection.report(number)
        if report is not None and report.changed:
            self._reports.append(report)
            announce(report, in_host=True)

    def remove(self, item: PushItem, tag: str, names: Sequence[str]) -> list[tuple[str, str, str]]:
        """Remove platforms from a tag, with their attestations; list whose signatures are to go."""
        settings, reference = self._settings.of(item), self._reference(item, tag)
        writer = make_writer(self._client, settings, self._history)
        patterns = tuple(_to_pattern(name) for name in names)
        with lock_tags([[str(reference)]], settings.lock, settings.lock_aliases) as (check,):
            report = remove_platforms(writer, reference, patterns, check=check)
        gone = (entry.descriptor.digest for entry in report.entries if entry.fate == "dropped")
        # An image may be listed for two platforms, of which one stays.
        left = {entry.descriptor.digest for entry in report.entries if entry.fate != "dropped"}
        return [(digest, tag, _repository(item)) for digest in gone if digest not in left]

    def alone(self, item: PushItem, tag: str, host: Callable[[], object]) -> None:
        """Let the host replace or delete a whole tag, unless it moved since it was looked at."""
        settings, reference = self._settings.of(item), self._reference(item, tag)
        with lock_tags([[str(reference)]], settings.lock, settings.lock_aliases) as (check,):
            if settings.verify and reference in self._seen:  # else a site chose it by itself
                seen, found = self._seen[reference], self._client.digest(reference)
                if found not in (None, seen):
                    raise ConflictError(str(reference), seen, found, 1)
            check()
            host()

    def _reference(self, item: PushItem, tag: str) -> Reference:
        return internal_reference(self._task, _repository(item), tag)

    def _look(self, item: PushItem, tag: str) -> Manifest | None:
        """Read a tag that is to be changed, and note what it holds."""
        held = self._read(item, tag)
        self._seen[self._reference(item, tag)] = None if held is None else held.digest
        return held

    def _read(self, item: PushItem, tag: str) -> Manifest | None:
        reference = self._reference(item, tag)
        found = self._client.pull_if_present(reference)
        return self._client.read_nested(reference, found) if isinstance(found, Index) else found


def _repository(item: PushItem) -> str:
    return next(iter(item.repos))


def make_writer(
    client: RegistryClient, settings: Settings, history: TagHistory | None = None
) -> Writer:
    """Make a writer of tags, without anchor tags."""
    options = evolve(step_options(settings), anchor_tag=None, upload_level=logging.DEBUG)
    return Writer(client, options, task_records(settings.audit), history)


@define(eq=False)
class Selection:
    """One attempt to give a tag selected platforms of another one.

    The host signs what it computed, so that cannot be replaced by something computed anew: a tag
    that somebody else wrote is a `ConflictError`, and the host is to begin again. What was replaced
    unseen is written back before.
    """

    settings: Settings
    client: RegistryClient
    source: Reference
    destination: Reference
    history: TagHistory | None = None
    check: Callable[[], None] = no_lock
    plan: Plan[Index] | None = field(default=None, init=False)
    """None where somebody else's hook computes the list."""
    _is_computed: bool = field(default=False, init=False)
    _written: str | None = field(default=None, init=False)

    def report_only(self, names: Sequence[str]) -> None:
        """Log what would be done, unless somebody else computes the list."""
        outcome: Report | Exception
        try:
            with observed("merge", self.source, self.destination, dry_run=True) as seen:
                self.compute(names)
                if self.plan is None:
                    return
                report = Report.of(self.plan, self.source, self.destination, dry_run=True)
                is_absent = report.previous_digest is None
                is_hidden = is_absent and self.client.look(self.destination)[1]
                seen.report = outcome = evolve(report, is_hidden=is_hidden)
        except Exception as error:  # noqa: BLE001 - does not concern what the host does
            outcome = error
        log_plan(outcome)

    def compute(self, names: Sequence[str]) -> object:
        """Compute the list that the tag is to hold; the host signs and uploads it."""
        merger = ManifestListMerger(str(self.source), str(self.destination))
        merger.set_quay_clients(self.client, self.client)

        def plan(policy: Policy) -> Plan[Index]:
            self.plan = merger.plan_selected(policy, self._merge)
            return self.plan

        eligible = tuple(name for name in names if name)
        request = SelectedRequest(
            merger.src_image, merger.dest_image, eligible, self.settings, plan
        )
        with plugins_named("mlmerge_merge_selected"):
            computed: object = pm.hook.mlmerge_merge_selected(request=request)
        self._is_computed = True
        return computed

    def _merge(self, source: Index, destination: Index | None, policy: Policy) -> Plan[Index]:
        source = self.client.read_nested(self.source, source, is_source=True)
        if destination is not None:
            destination = self.client.read_nested(self.destination, destination)
        ages = Ages(self.client, self.settings.ages)
        try:
            return ages.merge(self.destination, source, destination, policy)
        except NestedIndex as error:
            raise evolve(error, reference=str(self.destination)) from error

    def guard(self, client: HostClient) -> object:
        """Let the next upload of the host's client be written by ours."""
        return GuardedClient(client, self)

    def write(self, image: str, content: bytes) -> None:
        """Write what the host computed and signed."""
        tag, plan = Reference.parse(image), self.plan
        if not self._is_computed:
            problem = "pubtools-quay has its own list for this tag, which may lack images"
            raise StepNotDone(problem, (str(tag),))
        if plan is None:
            self.check()
            with expiration_kept(self.history, tag):
                self._written = push(self.client, tag, Index.from_bytes(content))
            return
        seen, source = plan.previous_digest, plan.source
        result = Index.from_bytes(content, plan.result.media_type)
        plan = evolve(plan, result=result, changed=True)
        new = None if source is None else Side(self.source, source, source)

        def decide(held: Manifest | None) -> Decision:
            if seen == (None if held is None else held.digest):
                # What turns out to be replaced unseen is merged with what was written.
                return first
            if held is None:
                raise ConflictError(str(tag), seen, None, 1)
            return Decision(None, tag, held, Plan(held, (), changed=True), decide)

        first = Decision(new, tag, result, plan, decide, seen=seen)
        writer = make_writer(self.client, self.settings, self.history)
        report = writer.carry_out(first, self.check)
        if report.digest != result.digest:
            raise ConflictError(str(tag), seen, report.digest, 1)
        self._written = report.digest

    def report(self, attempts: int) -> Report | None:
        """Report what was written; None where somebody else computed the list.

        Raises:
            StepNotDone: When the host wrote the tag by another way, or not at all.
        """
        if self._written is None:
            problem = "pubtools-quay did not write this tag by the step, so it may lack images"
            raise StepNotDone(problem, (str(self.destination),))
        if self.plan is None:
            return None
        report = Report.of(self.plan, self.source, self.destination)
        # The host encodes anew even what the tag held already.
        changed = self._written != report.previous_digest
        return evolve(report, digest=self._written, changed=changed, attempts=attempts)


class GuardedClient:
    """The host's client with an upload of ours; it finds OCI indexes of any registry as well.

    Asked for any type, the host's own takes a registry's refusal of the first type for the absence
    of the tag.
    """

    def __init__(self, client: HostClient, selection: Selection) -> None:
        self._client = client
        self._selection = selection

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def get_manifest(
        self,
        image: str,
        raw: bool = False,  # noqa: FBT001, FBT002 - the host's signature
        media_type: str | None = None,
        return_headers: bool = False,  # noqa: FBT001, FBT002 - the host's signature
    ) -> object:
        """Read a manifest; of any type if no type is given."""
        if media_type is not None:
            return self._client.get_manifest(image, raw, media_type, return_headers)
        return self._selection.client.get_manifest(image, raw, None, return_headers)

    def upload_manifest(
        self,
        manifest: object,
        image: str,
        raw: bool = False,  # noqa: ARG002, FBT001, FBT002 - the host's signature
    ) -> None:
        """Write a manifest, looked at before and after."""
        self._selection.write(image, content_of(manifest))
