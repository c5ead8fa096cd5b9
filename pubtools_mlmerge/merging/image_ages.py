"""Read the ages of kept images from the registry, and merge by them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import lru_cache, partial
from typing import Optional

from attrs import evolve

from pubtools_mlmerge.concurrency import run_all
from pubtools_mlmerge.core.ages import age_of, find_stale, with_ages
from pubtools_mlmerge.core.manifests import Descriptor, Image, Index, platform_name
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, AgeRule, Entry, Plan, Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import MergeError, StaleImages, brief
from pubtools_mlmerge.registry.base import Registry

LOG = logging.getLogger("pubtools.mlmerge")

_CREATED = "org.opencontainers.image.created"  # image-spec, "Pre-Defined Annotation Keys"
_THREADS = 4
_PLANS = 8  # that are remembered

MergeFunction = Callable[[Index, Optional[Index], Policy], Plan[Index]]
"""Merges a source and what the destination holds, such as `merge`."""


class Ages:
    """Reads the ages of what merges keep, each once; safe from several threads."""

    def __init__(
        self,
        registry: Registry,
        rule: AgeRule,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._registry = registry
        self._rule = rule
        self._clock = clock
        # Many tags of a release hold the same, and are merged once.
        self._merge = lru_cache(_PLANS)(merge)
        self._created: dict[str, str | None] = {}  # by digest

    def merge(
        self, tag: Reference, source: Index, destination: Index | None, policy: Policy
    ) -> Plan[Index]:
        """Merge like `merge`, and by the rule of ages."""
        rule = self._rule
        if not rule.needs_ages:
            return self._merge(source, destination, policy)
        # Without what is too old, a forbidden mix of types may be none.
        plan = merge(source, destination, evolve(policy, mixed_types="oci"))
        ages = self.read(tag, (e.descriptor for e in plan.entries if e.fate == "kept"))
        stale = find_stale(ages, rule)
        if stale and rule.stale == "fail":
            old = (entry for entry in with_ages(plan, ages, stale).entries if entry.is_stale)
            raise StaleImages(
                str(tag),
                tuple(f"{_name(e)} ({e.descriptor.digest}) is {_say_age(e, rule)}" for e in old),
            )
        plan = merge(source, destination, policy, stale if rule.stale == "drop" else None)
        plan = with_ages(plan, ages, stale)
        for entry in plan.entries:
            if entry.is_stale or (entry.age and entry.age.problem):
                _log_age(tag, entry, rule)
        return plan

    def read(self, tag: Reference, entries: Iterable[Descriptor]) -> dict[str, Age]:
        """Read the ages of images."""
        now = self._clock()
        images = {entry.digest: entry for entry in entries if not entry.is_attestation}
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="mlmerge") as pool:
            jobs = [partial(self._age, tag, entry, now) for entry in images.values()]
            return dict(zip(images, run_all(pool, jobs)))

    def _age(self, tag: Reference, entry: Descriptor, now: datetime) -> Age:
        created = _annotation(entry.fields)
        if created is None and entry.is_index:
            return Age(problem="it is an index")
        try:
            return age_of(created or self._read_created(tag, entry.digest), now)
        except MergeError as error:
            return Age(problem=brief(str(error), 200))

    def _read_created(self, tag: Reference, digest: str) -> str | None:
        if digest not in self._created:
            image = tag.at(digest)
            manifest = self._registry.pull(image)
            created = _annotation(decode(manifest.content))
            if created is None and isinstance(manifest, Image):
                created = _text(self._registry.pull_config(image, manifest), "created")
            self._created[digest] = created
        return self._created[digest]


def _name(entry: Entry) -> str:
    return brief(platform_name(entry.descriptor) or "no platform", 100)


def _say_age(entry: Entry, rule: AgeRule) -> str:
    if entry.age and entry.age.problem:
        return f"age unknown: {entry.age.problem}"
    return f"{entry.age_days} days old, more than {rule.max_age_days}"


def _log_age(tag: Reference, entry: Entry, rule: AgeRule) -> None:
    """Log an age that is too old, or unknown."""
    image, platform = f"{tag}@{entry.descriptor.digest}", _name(entry)
    known = {"image": image, "platform": platform, "age_days": entry.age_days, "fate": entry.fate}
    LOG.log(
        logging.WARNING if entry.fate == "kept" else logging.INFO,
        "%s (%s) is %s: %s",
        *(image, platform, entry.fate, _say_age(entry, rule)),
        extra={"event": {"type": "mlmerge-age", **known}},
    )


def _annotation(fields: Mapping[str, object]) -> str | None:
    annotations = fields.get("annotations")
    return _text(annotations, _CREATED) if isinstance(annotations, dict) else None


def _text(fields: Mapping[str, object], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) and value else None
