"""The tag-docker step: which platforms are added or removed, and how the tag is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

from attrs import evolve, frozen
from pubtools.pluggy import pm

from pubtools_mlmerge.core.manifests import Index, Manifest
from pubtools_mlmerge.core.merge import merge, union
from pubtools_mlmerge.core.plan import Plan, Policy, Report
from pubtools_mlmerge.core.platforms import Platform, PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import encode
from pubtools_mlmerge.errors import ConflictError, InvalidPlatform, NestedIndex
from pubtools_mlmerge.hooks import announce, lock_tags, plugins_named
from pubtools_mlmerge.host.clients import connect_like, history_of, warn_of_certificates
from pubtools_mlmerge.host.requests import SelectedRequest
from pubtools_mlmerge.host.task import TaskReports
from pubtools_mlmerge.host.types import HostClient, HostTask, PushItem
from pubtools_mlmerge.locks import no_lock
from pubtools_mlmerge.merging.audit import task_records
from pubtools_mlmerge.merging.decision import Decision, StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import remove_platforms
from pubtools_mlmerge.merging.writer import Writer, expiration_kept, push
from pubtools_mlmerge.observe import observed
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.settings import ItemSettings, Settings

LOG = logging.getLogger("pubtools.mlmerge")


class TagTask(HostTask, Protocol):
    """The host's tag-docker, with what ours adds to it."""

    quay_client: HostClient

    def remove_signatures(self, outdated: list[tuple[str, str, str]]) -> None:
        """Let the enabled signers remove signatures."""


@frozen(eq=False)
class Names:
    """Which architectures or platforms a push item names."""

    patterns: tuple[PlatformPattern, ...]
    exclude: bool

    @classmethod
    def of(cls, item: PushItem) -> Names:
        """Read the names of an item; what is no name means nothing, as in the host."""
        patterns: list[PlatformPattern] = []
        for name in item.metadata["archs"]:
            try:
                patterns.append(PlatformPattern.parse(str(name)))
            except InvalidPlatform as error:
                LOG.warning("%s is ignored: %s", name, error)
        return cls(tuple(patterns), bool(item.metadata["exclude_archs"]))

    def choose(self, platform: Platform) -> bool:
        """Whether images of a platform are meant: it is named, or else not excluded."""
        return self.exclude != any(pattern.matches(platform) for pattern in self.patterns)


def to_add(source: Index, names: Names) -> list[str]:
    """Name the platforms of a source that are to be added."""
    slots = (slot for entry in source.manifests for slot in sorted(entry.slots, key=str))
    return list(dict.fromkeys(str(slot) for slot in slots if names.choose(slot)))


def to_remove(index: Index, source: Index | None, names: Names) -> tuple[list[str], list[str]]:
    """Name the platforms to remove and those that stay.

    Where there is a source, only what it lists as well is removed. An entry without a platform
    stays, named by an empty text; an attestation goes by its image.
    """
    images = {entry.digest for entry in index.manifests if entry.slots}
    known = None
    if source is not None:
        known = {(entry.digest, slot) for entry in source.manifests for slot in entry.slots}
    gone: list[str] = []
    kept: list[str] = []
    for entry in index.manifests:
        if not entry.slots and entry.attested not in images:
            kept.append("")
        for slot in sorted(entry.slots, key=str):
            is_gone = names.choose(slot) and (known is None or (entry.digest, slot) in known)
            (gone if is_gone else kept).append(str(slot))
    return gone, kept


class TagDockerStep:
    """Merges in the tags of one tag-docker task."""

    def __init__(self, settings: Settings, push_items: Iterable[PushItem] = ()) -> None:
        self._settings = ItemSettings(settings, push_items)
        self._reports = TaskReports()
        self._client: RegistryClient | None = None
        self.selection: Selection | None = None  # while a merge is under way

    @contextmanager
    def running(self) -> Iterator[None]:
        """Bracket a task: sum up at the end, and close the connections."""
        try:
            with self._reports.summed_up():
                yield
        finally:
            if self._client is not None:
                self._client.close()
                self._client = None

    def is_relevant(self, item: PushItem, architecture: str, host: Callable[[], object]) -> object:
        """Whether an item means a single image; other spellings of the architecture count."""
        if self._writing(item) is None:
            return host()
        return Names.of(item).choose(Platform("linux", architecture))

    def added(self, task: TagTask, item: PushItem, tag: str, host: Callable[[], object]) -> object:
        """List the platforms that are to be added to a tag."""
        settings = self._writing(item)
        if settings is None:
            return host()
        client = self._connect(task)
        source = _read(client, _reference(task, item, item.metadata["tag_source"]))
        if isinstance(source, Index):
            return to_add(source, Names.of(item))
        # The host itself refuses a source that is absent or no index. But it does not
        # find an OCI tag on a registry that requires its type in Accept, and would replace it.
        destination = _reference(task, item, tag)
        held = None if source is None else client.pull_if_present(destination)
        if source is not None and held is not None and held.media_type != source.media_type:
            from pubtools._quay.exceptions import BadPushItem  # noqa: PLC0415 - the host

            problem = f"it holds {held.media_type}, and the source {source.media_type}"
            raise BadPushItem(f"{destination}: {problem}; add tags of one type only")
        return host()

    def removed(
        self, task: TagTask, item: PushItem, tag: str, host: Callable[[], object]
    ) -> object:
        """List the platforms that are to be removed from a tag, and those that stay."""
        settings = self._writing(item)
        if settings is None:
            return host()
        client = self._connect(task)
        held = _read(client, _reference(task, item, tag))
        source: Index | None = None
        if item.metadata["tag_source"]:
            found = _read(client, _reference(task, item, item.metadata["tag_source"]))
            if not isinstance(found, Index):
                return host()
            source = found
        if not isinstance(held, Index):
            return host()
        return to_remove(held, source, Names.of(item))

    def merge(self, task: TagTask, item: PushItem, tag: str, host: Callable[[], object]) -> None:
        """Let the host merge and sign, with a list and an upload of ours."""
        settings = self._of(item)
        if settings is None:
            host()
            return
        source = _reference(task, item, item.metadata["tag_source"])
        destination = _reference(task, item, tag)
        client = self._connect(task)
        if settings.report_only:
            self._run_with(Selection(settings, client, source, destination), host)
            return
        history = history_of(client, task.target_settings)
        lock = lock_tags([[str(destination)]], settings.lock, settings.lock_aliases)
        with lock as (check,), observed("merge", source, destination) as seen:
            for number in range(1, settings.tries + 1):
                selection = Selection(settings, client, source, destination, history, check)
                try:
                    self._run_with(selection, host)
                    break
                except ConflictError as error:  # the host signed a list that is out of date
                    if number == settings.tries:
                        raise
                    LOG.info("Starting again: %s", error)
            seen.report = report = selection.report(number)
        if report is not None:
            self._reports.add(report)
            announce(report, in_host=True)

    def remove(
        self,
        task: TagTask,
        item: PushItem,
        tag: str,
        names: Sequence[str],
        host: Callable[[], object],
    ) -> None:
        """Remove platforms from a tag, with their attestations, and then the signatures."""
        settings = self._writing(item)
        if settings is None:
            host()
            return
        reference = _reference(task, item, tag)
        client = self._connect(task)
        writer = make_writer(client, settings, history_of(client, task.target_settings))
        patterns = tuple(PlatformPattern.exact(name) for name in names if name)
        with lock_tags([[str(reference)]], settings.lock, settings.lock_aliases) as (check,):
            report = remove_platforms(writer, reference, patterns, allow_empty=True, check=check)
        repository = next(iter(item.repos))
        gone = [entry.descriptor.digest for entry in report.entries if entry.fate == "dropped"]
        task.remove_signatures([(digest, tag, repository) for digest in gone])

    def _run_with(self, selection: Selection, host: Callable[[], object]) -> None:
        self.selection = selection
        try:
            host()
        finally:
            self.selection = None

    def _of(self, item: PushItem) -> Settings | None:
        """Return the settings of an item; None if its repository is excluded."""
        settings = self._settings.of(item)
        return settings if settings.covers(next(iter(item.repos))) else None

    def _writing(self, item: PushItem) -> Settings | None:
        """Return the settings of an item that the step writes for."""
        settings = self._of(item)
        return None if settings is None or settings.report_only else settings

    def _connect(self, task: TagTask) -> RegistryClient:
        if self._client is None:
            warn_of_certificates(task.quay_client, self._settings.task)
            self._client = connect_like(task.quay_client, self._settings.task)
        return self._client


def _read(client: RegistryClient, reference: Reference) -> Manifest | None:
    found = client.pull_if_present(reference)
    return client.read_nested(reference, found) if isinstance(found, Index) else found


def _reference(task: TagTask, item: PushItem, tag: str) -> Reference:
    name = next(iter(item.repos)).replace("/", "----")
    namespace = task.target_settings["quay_namespace"]
    return Reference.parse(f"{task.quay_host}/{namespace}/{name}:{tag}")


def make_writer(
    client: RegistryClient, settings: Settings, history: TagHistory | None = None, tries: int = 0
) -> Writer:
    """Make a writer of tags."""
    tries = tries or settings.tries
    options = StepOptions(verify=settings.verify, tries=tries, upload_level=logging.DEBUG)
    return Writer(client, options, task_records(settings.audit), history)


class Selection:
    """One attempt to give a tag selected platforms of another one.

    The host signs what it computed, so that cannot be replaced by something computed anew: a tag
    that somebody else wrote is a `ConflictError`, and the host is to begin again.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the two tags, and how the second is written
        self,
        settings: Settings,
        client: RegistryClient,
        source: Reference,
        destination: Reference,
        history: TagHistory | None = None,
        check: Callable[[], None] = no_lock,
    ) -> None:
        self._settings = settings
        self.client = client
        self._source = source
        self._destination = destination
        self._history = history
        self._check = check
        self.plan: Plan[Index] | None = None  # None where somebody else's hook computes the list
        self._written: str | None = None

    def compute(self, names: Sequence[str], host: Callable[[], object]) -> object:
        """Compute the list that the tag is to hold; the host signs and uploads it."""
        if not self._settings.report_only:
            return self._compute(names)
        try:
            with observed("merge", self._source, self._destination, dry_run=True) as seen:
                self._compute(names)
                seen.report = report = self._make_report(dry_run=True)
        except Exception as error:  # noqa: BLE001 - does not concern what the host does
            LOG.warning("Would fail, if not report_only: %s", error)
        else:
            if report is not None:
                words = "Would merge, if not report_only"
                LOG.info(f"{words}:\n{to_text(report)}")  # noqa: G004 - arguments are put on one line
        return host()

    def _compute(self, names: Sequence[str]) -> object:
        merger = ManifestListMerger(str(self._source), str(self._destination))
        merger.set_quay_clients(self.client, self.client)
        request = SelectedRequest(
            str(self._source),
            str(self._destination),
            tuple(name for name in names if name),
            self._settings,
            merger,
            self._note,
            self._merge,
        )
        with plugins_named("mlmerge_merge_selected"):
            return pm.hook.mlmerge_merge_selected(request=request)

    def _merge(self, source: Index, destination: Index | None, policy: Policy) -> Plan[Index]:
        source = self.client.read_nested(self._source, source, is_source=True)
        if destination is not None:
            destination = self.client.read_nested(self._destination, destination)
        rule, tag = self._settings.ages, self._destination
        try:
            if rule.needs_ages:
                return Ages(self.client, rule).merge(tag, source, destination, policy)
            return merge(source, destination, policy)
        except NestedIndex as error:
            raise evolve(error, reference=str(self._destination)) from error

    def _note(self, plan: Plan[Index]) -> None:
        self.plan = plan

    def guard(self, client: HostClient) -> object:
        """Let the next upload of the host's client be written by ours."""
        return client if self._settings.report_only else GuardedClient(client, self)

    def write(self, image: str, content: bytes) -> None:
        """Write what the host computed and signed."""
        tag, plan = Reference.parse(image), self.plan
        if plan is None:
            self._check()
            self._written = push(self.client, tag, Index.from_bytes(content))
            return
        seen = plan.previous_digest
        plan = evolve(plan, result=Index.from_bytes(content, plan.result.media_type), changed=True)
        decision = _decision(plan, self._source, tag, seen)
        writer = make_writer(self.client, self._settings, tries=1)
        with expiration_kept(self._history, tag):
            self._written = writer.carry_out(decision, self._check).digest
        self._put_back(tag, self._written, seen)

    def _put_back(self, tag: Reference, written: str, seen: str | None) -> None:
        """Write back what was replaced unseen; the host's computed list is then out of date."""
        if self._history is None:
            return
        with ExitStack() as recovered:
            lost: list[Manifest] = []
            for reference in self._history.lost(tag, written, seen):
                recovered.callback(self._history.forget, reference)
                lost.append(self.client.pull(reference))
            old = union([*lost, self.client.pull(tag)]) if lost else None
            if old is None:
                return
            decision = _decision(Plan(old, (), changed=True), None, tag, written)
            make_writer(self.client, self._settings).carry_out(decision, self._check)
        raise ConflictError(str(tag), seen, lost[0].digest, 1)

    def report(self, attempts: int) -> Report | None:
        """Report what was written; None where nothing was, or somebody else computed the list."""
        report = self._make_report(dry_run=False)
        if report is None or self._written is None:
            return None
        return evolve(report, digest=self._written, attempts=attempts)

    def _make_report(self, *, dry_run: bool) -> Report | None:
        if self.plan is None:
            return None
        report = Report.of(self.plan, self._source, self._destination, dry_run=dry_run)
        is_absent = dry_run and report.previous_digest is None
        return evolve(report, is_hidden=is_absent and self.client.look(self._destination)[1])


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
        self._selection.write(image, _encode(manifest))


def _encode(manifest: object) -> bytes:
    if isinstance(manifest, dict):
        return encode(manifest)
    return manifest if isinstance(manifest, bytes) else str(manifest).encode("utf-8")


def _decision(
    plan: Plan[Index], source: Reference | None, tag: Reference, seen: str | None
) -> Decision:
    def decide(held: Manifest | None) -> Decision:
        found = None if held is None else held.digest
        return Decision(source, tag, None, held, plan, decide, seen=found)

    return Decision(source, tag, None, None, plan, decide, seen=seen)
