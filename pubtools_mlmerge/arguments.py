"""Arguments of the console scripts, turned into values; what is wrong with them is a ValueError."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

import urllib3
from attrs import evolve, field, frozen

from pubtools_mlmerge.core.ages import MOST_DAYS, AgeRule
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.host.seams import PREFIX
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.merging.audit import AuditDirectory
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import Address, ConnectOptions
from pubtools_mlmerge.registry.quay_history import QuayTags, Recovery
from pubtools_mlmerge.settings import MOST_TRIES, Settings


@frozen
class Login:
    """Where to connect, and as whom."""

    host: str | None
    username: str | None
    password: str | None = field(repr=False)

    def client(self, options: ConnectOptions) -> RegistryClient:
        """Connect."""
        return RegistryClient(self.username, self.password, self.host, options)


def policy_of(arguments: Namespace, default: Policy) -> Policy:
    """Let arguments win over the environment."""
    return Policy(
        match=arguments.match or default.match,
        eligible=None if arguments.arch is None else split("--arch", arguments.arch),
        keep=split("--keep", arguments.keep) or default.keep,
        drop=split("--drop", arguments.drop) or default.drop,
        mixed_types=arguments.mixed_types or default.mixed_types,
        single_image=arguments.single_image or default.single_image,
    )


def anchor_tag_of(
    arguments: Namespace, settings: Settings, destinations: Iterable[Reference]
) -> AnchorTag | None:
    """Take the template that is given, and make sure now that it will fit each destination."""
    anchor = None
    if arguments.anchor_tag:
        anchor = AnchorTag.parse(arguments.anchor_tag)
    elif f"{PREFIX}ANCHOR_TAG" in os.environ:  # the default of the host's pushes is none here
        anchor = settings.anchor_tag
    if anchor is not None:
        for destination in destinations:
            anchor.apply(destination, f"sha256:{'0' * 64}")
    return anchor


def step_options_of(
    arguments: Namespace,
    settings: Settings,
    policy: Policy | None = None,
    anchor_tag: AnchorTag | None = None,
) -> StepOptions:
    """Take how to write, arguments before the environment."""
    tries = settings.tries if arguments.tries is None else arguments.tries
    if not 1 <= tries <= MOST_TRIES:
        raise ValueError(f"--tries: expected a number from 1 to {MOST_TRIES}")
    return StepOptions(
        policy=policy or Policy(),
        dry_run=arguments.dry_run,
        anchor_tag=anchor_tag,
        verify=settings.verify if arguments.verify is None else arguments.verify,
        tries=tries,
        ages=ages_of(arguments, settings),
    )


def ages_of(arguments: Namespace, settings: Settings) -> AgeRule:
    """Take what is asked about ages, arguments before the environment."""
    if "max_age_days" not in arguments:  # no merge, so nothing is kept for want of a newer one
        return AgeRule()
    days = settings.max_age_days if arguments.max_age_days is None else arguments.max_age_days
    if days is None and arguments.stale:
        raise ValueError("--stale needs --max-age-days")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise ValueError(f"--max-age-days: expected a number from 1 to {MOST_DAYS}")
    stale = arguments.stale or settings.stale
    return AgeRule(max_age_days=days, stale=stale, shown=arguments.ages)


def lock_name(client: RegistryClient, tag: Reference) -> str:
    """Name the lock of a tag by where it really is, however its reference says so."""
    return str(evolve(tag, host=client.place(tag).host))


def lock_of(arguments: Namespace, settings: Settings) -> str | None:
    """Take where tags are locked."""
    if arguments.lock is None:
        return settings.lock
    if arguments.lock:
        check_url(arguments.lock)
    return str(arguments.lock) or None


def writer_of(
    arguments: Namespace, settings: Settings, client: RegistryClient, options: StepOptions
) -> Writer:
    """Make what writes tags, with the records and the history that are asked for."""
    audit = arguments.audit or settings.audit
    return Writer(
        client,
        options,
        AuditDirectory(audit) if audit else None,
        Recovery(QuayTags(client, arguments.quay_api_token)) if arguments.quay_api_token else None,
    )


def connection_of(arguments: Namespace) -> ConnectOptions:
    """Read how to connect."""
    bundle = arguments.ca_bundle
    if bundle is not None and not Path(bundle).is_file():
        raise ValueError(f"--ca-bundle: there is no file {bundle}")
    if arguments.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return ConnectOptions(ca_bundle=bundle, insecure=arguments.insecure)


def login_of(arguments: Namespace, side: str, host: str | None) -> Login:
    """Read where to connect for one side, and as whom."""
    username = getattr(arguments, f"{side}_quay_user")
    password = getattr(arguments, f"{side}_quay_password")
    if username and not password:
        variable = f"{side.upper()}_QUAY_PASSWORD"
        raise ValueError(f"--{side}-quay-user needs a password: set {variable}")
    if host:
        Address.parse(host)  # a malformed one is wrong usage, not a failure of a request
    # A password that only the environment offers, without a user, is for another program.
    return Login(host, username, password if username else None)


def split(option: str, values: Sequence[str]) -> list[str]:
    """Take values apart that are separated by commas."""
    parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
    if values and not parts:  # a script may pass on a variable that is empty by mistake
        raise ValueError(f"{option} names nothing")
    return parts


def reference_of(text: str, login: Login) -> Reference:
    """Read a reference; its host may be left out where another one is given."""
    reference = Reference.parse(text)
    if not reference.host and not login.host:
        raise InvalidReference(text, "it names no host; add it, or give --quay-host")
    return reference


def tag_of(text: str, login: Login) -> Reference:
    """Read the reference of a destination."""
    reference = reference_of(text, login)
    if reference.digest:
        raise InvalidReference(text, "a destination must be a tag, not a digest")
    return reference
