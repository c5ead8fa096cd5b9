"""The options of the commands, as typed values."""

from __future__ import annotations

import math
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import urllib3
from attrs import evolve, field, frozen

from pubtools_mlmerge.core.plan import MOST_DAYS, Policy
from pubtools_mlmerge.core.references import Address, Reference, lacks_host
from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.locks import check_url
from pubtools_mlmerge.merging.audit import AuditDirectory
from pubtools_mlmerge.merging.decision import AnchorTag
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions, Shared
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.settings import MOST_TRIES, PREFIX, Settings, step_options

_SIDES = {"source": "SRC", "dest": "DEST"}  # with their names in variables


@frozen
class Login:
    """Where to connect, and with which login."""

    host: str | None
    username: str | None
    password: str | None = field(repr=False)
    place: str = field(default="", eq=False)

    @classmethod
    def of(cls, arguments: Namespace, side: str) -> Login:
        """Read the options of the source or the destination."""
        host = (arguments.source_quay_host if side == "source" else None) or arguments.quay_host
        if host:
            Address.parse(host)  # so that a malformed one is wrong usage
        option, username, variable = _user_of(arguments, side)
        if not username:  # then a password in the environment is for another program
            return cls(host, None, None)
        if ":" in username:
            raise ValueError(f"{option} takes a user name; set the password in {variable}")
        for place, password in _passwords_of(arguments, side, username):
            if password:
                return cls(host, username, password, f"{option} and {place}")
        raise ValueError(f"{option} needs a password: set {variable}, or use --password-stdin")

    def client(self, options: ConnectOptions) -> RegistryClient:
        """Make a client."""
        return RegistryClient(
            self.host,
            username=self.username,
            password=self.password,
            options=options,
            login_from=self.place,
        )

    def reference(self, text: str) -> Reference:
        """Parse a reference, whose host may be left out with --quay-host."""
        reference = Reference.parse(text)
        if not reference.host and not self.host:
            raise lacks_host(reference, ", or give --quay-host")
        return reference

    def tag(self, text: str) -> Reference:
        """Parse the reference of a destination."""
        reference = self.reference(text)
        if reference.digest:
            raise InvalidReference(text, "a destination must be a tag, not a digest")
        return reference


def _user_of(arguments: Namespace, side: str) -> tuple[str, str | None, str]:
    """Find an option or variable with a user name, that name, and the variable of its password."""
    name = _SIDES[side]
    own, both = f"{PREFIX}{name}", PREFIX[:-1]
    for place, user, prefix in (
        (f"--{name.lower()}-creds", getattr(arguments, f"{name.lower()}_creds"), own),
        ("--creds", arguments.creds, both),
        (f"{own}_CREDS", os.environ.get(f"{own}_CREDS"), own),
        (f"{both}_CREDS", os.environ.get(f"{both}_CREDS"), both),
    ):
        if user:
            return place, user, f"{prefix}_PASSWORD"
    return "", None, ""


def _passwords_of(
    arguments: Namespace, side: str, username: str
) -> Iterator[tuple[str, str | None]]:
    """Give the passwords that may be of a user, each with its option or variable."""
    yield f"--{side}-quay-password", getattr(arguments, f"{side}_quay_password")
    yield "--password-stdin", arguments.read_password
    hosts = {f"{PREFIX}{_SIDES[side]}": f"{side.upper()}_QUAY", PREFIX[:-1]: "QUAY"}
    for ours, of_host in hosts.items():
        if os.environ.get(f"{ours}_CREDS") in (None, "", username):  # else it is of another user
            yield f"{ours}_PASSWORD", os.environ.get(f"{ours}_PASSWORD")
        yield f"{of_host}_PASSWORD", os.environ.get(f"{of_host}_PASSWORD")


def read_password(arguments: Namespace) -> None:
    """Read the password from standard input, for all users that are named."""
    arguments.read_password = None
    if not arguments.password_stdin:
        return
    sides = [side for side, name in _SIDES.items() if f"{name.lower()}_creds" in arguments]
    users = {_user_of(arguments, side)[1] for side in sides}
    if len(users) != 1 or not all(users):
        raise ValueError("--password-stdin needs one user: give it by --creds")
    if getattr(arguments, "batch", None) == "-":
        raise ValueError("--password-stdin and --batch - both read standard input")
    arguments.read_password = sys.stdin.readline().rstrip("\r\n")
    if not arguments.read_password:
        raise ValueError("--password-stdin: there is no password on standard input")


def connection_of(arguments: Namespace) -> ConnectOptions:
    """Read how to connect."""
    bundle, cert, key = arguments.ca_bundle, arguments.cert, arguments.key
    for option, file in (("--ca-bundle", bundle), ("--cert", cert), ("--key", key)):
        if file is not None and not Path(file).is_file():
            raise ValueError(f"{option}: there is no file {file}")
    if key is not None and cert is None:
        raise ValueError("--key needs --cert")
    if arguments.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    rate, limit = arguments.max_rate, arguments.timeout
    for option, number in (("--max-rate", rate), ("--timeout", limit)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"{option}: expected a number above 0")
    return ConnectOptions(
        ca_bundle=bundle,
        client=(cert, key or cert) if cert else None,
        insecure=arguments.insecure,
        max_rate=rate,
        time_limit=limit,
        shared=Shared(),
    )


def settings_of(arguments: Namespace) -> Settings:
    """Read the environment, and what a command that writes tags may set differently."""
    settings = Settings.for_commands(os.environ)
    if arguments.lock:
        try:
            check_url(arguments.lock)
        except ValueError as error:
            raise ValueError(f"--lock: {error}") from None
    return evolve(
        settings,
        report_only=arguments.dry_run,
        verify=settings.verify and not arguments.no_verify,
        tries=number("--tries", arguments.tries, MOST_TRIES) or settings.tries,
        # An empty URL turns the lock of the environment off.
        lock=settings.lock if arguments.lock is None else arguments.lock or None,
        audit=arguments.audit or settings.audit,
    )


def merge_settings_of(arguments: Namespace) -> Settings:
    """Read the environment, and what the merge may set differently."""
    settings = settings_of(arguments)
    default = settings.policy
    days = number("--max-age-days", arguments.max_age_days, MOST_DAYS) or settings.max_age_days
    if days is None and arguments.stale:
        raise ValueError("--stale needs --max-age-days")
    anchor = arguments.anchor_tag
    return evolve(
        settings,
        policy=Policy(
            match=arguments.match or default.match,
            eligible=split("--arch", arguments.arch) or None,
            keep=split("--keep", arguments.keep) or default.keep,
            drop=split("--drop", arguments.drop) or default.drop,
            mixed_types=arguments.mixed_types or default.mixed_types,
            single_image=arguments.single_image or default.single_image,
            strict=arguments.strict,
            annotations=annotations_of(arguments),
        ),
        max_age_days=days,
        stale=arguments.stale or settings.stale,
        copy=arguments.copy or settings.copy,
        referrers=arguments.referrers or settings.referrers,
        anchor_tag=AnchorTag.parse(anchor) if anchor else settings.anchor_tag,
    )


def annotations_of(arguments: Namespace) -> dict[str, str]:
    """Read the annotations of the index itself."""
    parts = [text.partition("=") for text in arguments.annotation]
    if not all(key.strip() and sign for key, sign, _ in parts):
        raise ValueError("--annotation: expected KEY=VALUE")
    return {key.strip(): value for key, _, value in parts}


def references_of(arguments: Namespace) -> tuple[list[str], list[str]]:
    """Read sources and destinations, by position or by option."""
    sources, destinations = arguments.source_ref, arguments.dest_ref
    if arguments.references:
        if sources or destinations:
            raise ValueError("give images by position, or by --source-ref and --dest-ref")
        *sources, last = arguments.references
        destinations = [last]
    if not sources or not destinations:
        raise ValueError("a source and a destination are needed, or --batch")
    return split("--source-ref", sources), split("--dest-ref", destinations)


def number(option: str, value: int | None, most: int) -> int | None:
    """Check a number."""
    if value is not None and not 1 <= value <= most:
        raise ValueError(f"{option}: expected a number from 1 to {most}")
    return value


def writer_of(arguments: Namespace, settings: Settings, client: RegistryClient) -> Writer:
    """Make the writer of tags, with records and Quay's history if the options say so."""
    recorder = AuditDirectory(settings.audit).record if settings.audit else None
    token = arguments.quay_api_token
    history = TagHistory(client, token, arguments.quay_api_token_host) if token else None
    ages = evolve(settings.ages, shown="ages" in arguments and arguments.ages)
    return Writer(client, evolve(step_options(settings), ages=ages), recorder, history)


def split(option: str, values: Sequence[str]) -> list[str]:
    """Split values at commas; a line break stays, and is wrong in a name."""
    parts = [part.strip(" ") for value in values for part in value.split(",") if part.strip()]
    if values and not parts:  # perhaps an empty variable in a script
        raise ValueError(f"{option} names nothing")
    return parts
