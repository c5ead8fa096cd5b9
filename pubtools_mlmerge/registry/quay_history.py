"""The history of tags that Quay's API knows."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from operator import attrgetter
from secrets import token_hex
from urllib.parse import quote, urlencode

from attrs import frozen

from pubtools_mlmerge.concurrency import Memo
from pubtools_mlmerge.core.references import Address, Reference, is_registered_digest, one_name
from pubtools_mlmerge.core.strict_json import decode, encode
from pubtools_mlmerge.errors import (
    Forbidden,
    InvalidIndex,
    InvalidReference,
    InvalidSettings,
    NotFound,
    RegistryError,
)
from pubtools_mlmerge.registry.auth import WITHHELD, Secrets, failure, redacted
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import TRANSIENT, Answer, Request, origin

LOG = logging.getLogger("pubtools.mlmerge")

_RECOVERED = "mlmerge-recovered-"  # how the tags begin under which manifests are read again
_DIGEST_LENGTH = 12  # hexadecimal digits of the digest that go into such a tag
_MOST_ROWS = 100  # what Quay gives at once
_FORBIDDEN = 403
_JSON = "application/json"
_NOT_FOUND = 404
_SERVER_FAILED = 500
_MOST_HOSTS = 1000
_IS_QUAY = "Quay"

_LAST_SECOND = 253_402_300_799  # of the year 9999


@frozen
class TagRow:
    """A time during which a tag named one digest, in whole seconds since 1970."""

    digest: str
    start: int
    end: int | None  # perhaps in the future; none while no end is set
    is_immutable: bool = False


def replaced(rows: Iterable[TagRow], written: str, seen: str | None) -> tuple[str, ...]:
    """List the digests that a PUT replaced unread.

    Quay ends what a PUT replaces in the second in which the new row begins. Rows of one second are
    in no reliable order, and a PUT that had to wait may begin before the one that it replaces; so
    all that began or ended in that second is suspect. If `written` replaced itself, as when a PUT
    is repeated, the row before counts as the same PUT.
    """
    rows = sorted(rows, key=attrgetter("start"), reverse=True)
    found: set[TagRow] = set()
    own = next((row for row in rows if row.digest == written), None)
    while own is not None:
        start = own.start
        alive = [row for row in rows if row.end is None or row.end >= start]
        before = next((row.start for row in alive if row.start < start), None)
        suspects = [row for row in alive if start in (row.start, row.end) or row.start == before]
        found.update(suspects)
        earlier = (row for row in suspects if row.start < start and row.digest == written)
        own = next(earlier, None) if seen != written else None
    digests = dict.fromkeys(row.digest for row in rows if row in found)
    return tuple(digest for digest in digests if digest not in (written, seen))


class TagHistory:
    """Finds manifests that a write replaced unread, in Quay's history of tags.

    It is read with a token of Quay's own API, over the connections of a registry client. The token
    goes to one registry only: the named one, else that of the client, else quay.io; and not before
    that has shown itself as Quay.
    """

    def __init__(self, client: RegistryClient, token: str, host: str | None = None) -> None:
        self._client = client
        self._token = token.strip()
        # The http library would quote a header that it refuses.
        if not self._token.isascii() or not self._token.isprintable() or not self._token:
            raise InvalidSettings(("the token of Quay's API has to be printable ASCII",))
        named = host or client.host
        self._host = Address.parse(named).host if named else ""
        self._hosts: Memo[str, str] = Memo(_MOST_HOSTS)

    def lost(
        self, tag: Reference, written: str, seen: str | None
    ) -> Iterable[tuple[Reference, bool]]:
        """Recover what the write may have replaced unread, newest first.

        Each comes with whether it is newer than what was seen, by the order of the rows, which
        within one second may be wrong. A missing history is a warning.
        """
        rows = self._rows_if_any(tag, "another writer was replaced")
        if rows is None:
            return
        if all(row.digest != written for row in rows):
            LOG.warning("%s: its history does not have %s yet", tag, written)
        digests = [row.digest for row in rows]
        newer = digests[: digests.index(seen)] if seen in digests else digests
        for digest in replaced(rows, written, seen):
            LOG.warning("%s: %s was replaced by %s", tag, digest, written)
            try:
                recovered = self.recover(tag, digest)
            except RegistryError as error:
                LOG.warning("%s: its content is lost: %s", tag, error)
            else:
                yield recovered, digest in newer

    def rows(self, reference: Reference) -> tuple[TagRow, ...]:
        """Read which digests a tag named lately, newest first, on one page of 100 rows."""
        tag = reference.tagged(reference.tag).tag
        query = {"specificTag": tag, "onlyActiveTags": "false", "limit": _MOST_ROWS}
        answer = self._send("GET", reference, f"?{urlencode(query)}")
        try:
            with self._client.withholding():
                return _read(answer.content, tag)
        except InvalidIndex as error:
            subject = f"tag history of {reference}"
            raise RegistryError(subject, answer.status, str(error)) from error

    def recover(self, reference: Reference, digest: str) -> Reference:
        """Put a manifest under a new tag, as Quay keeps one without a tag but hides it."""
        # Others may recover the same manifest now, and forget it before it was pulled here.
        tag = f"{_RECOVERED}{digest.partition(':')[2][:_DIGEST_LENGTH]}-{token_hex(4)}"
        recovered = reference.at(digest).tagged(tag)
        content = encode({"manifest_digest": digest})
        self._send("POST", recovered, f"{quote(tag, safe='')}/restore", content)
        event = {"type": "mlmerge-recover", "destination": str(recovered), "digest": digest}
        LOG.info("Recovered %s as %s", digest, recovered, extra={"event": event})
        return recovered

    def expire_at(self, reference: Reference, moment: int) -> None:
        """Let Quay delete a tag at a time; on failure, warn that it stays."""
        content = encode({"expiration": moment})
        try:
            self._send("PUT", reference, quote(reference.tag, safe=""), content)
        except RegistryError as error:
            LOG.warning("%s does not expire: %s", reference, error)

    def expiration(self, tag: Reference) -> int | None:
        """Read when Quay deletes a tag; none if it does not, or that cannot be read."""
        row = self._current(tag)
        return None if row is None else row.end

    def warn(self, tag: Reference) -> None:
        """Warn of a tag that cannot be moved, and of one that expires."""
        row = self._current(tag)
        if row is not None and row.is_immutable:
            LOG.warning("%s is immutable: Quay would refuse to write it", tag)
        if row is not None and row.end is not None:
            moment = datetime.fromtimestamp(row.end, timezone.utc).isoformat()
            LOG.warning("%s expires at %s; a merge sets that again", tag, moment)

    def _current(self, tag: Reference) -> TagRow | None:
        rows, now = self._rows_if_any(tag, "it expires") or (), time.time()
        return next((row for row in rows if row.end is None or row.end > now), None)

    def _rows_if_any(self, tag: Reference, fact: str) -> tuple[TagRow, ...] | None:
        """Read the history; none, with a warning unless this is no Quay, where it is not there."""
        try:
            return self.rows(tag)
        except NotFound as error:
            LOG.debug("%s: no Quay, or no history: %s", tag, error)
        except RegistryError as error:
            LOG.warning("%s: cannot tell whether %s: %s", tag, fact, error)
        return None

    def forget(self, reference: Reference) -> None:
        """Delete a tag that `recover` made; on failure, warn that it stays."""
        if not reference.tag.startswith(_RECOVERED):
            raise InvalidReference(str(reference), f"only tags {_RECOVERED}... are deleted")
        event = {"type": "mlmerge-forget", "destination": str(reference)}
        try:
            with suppress(NotFound):
                self._send("DELETE", reference, quote(reference.tag, safe=""))
                LOG.info("Deleted %s", reference, extra={"event": event})
        except RegistryError as error:
            LOG.warning("A temporary tag could not be deleted: %s", error)

    def _send(
        self, method: str, reference: Reference, path: str, content: bytes | None = None
    ) -> Answer:
        session, subject = self._client.session(reference), f"tag history of {reference}"
        found = self._hosts.get(session.host, partial(self._look, reference, session.host))
        if found != _IS_QUAY:
            raise NotFound(subject, _NOT_FOUND, found)
        answer = self._ask(method, reference, path, content, self._token)
        if answer.status == _FORBIDDEN and b"CSRF" in answer.content:
            problem = "Quay's API does not accept the token: check --quay-api-token"
            raise Forbidden(subject, answer.status, problem)
        if not answer.is_success or answer.content == WITHHELD.encode():
            raise self._failure(reference, answer)
        return answer

    def _ask(
        self, method: str, reference: Reference, path: str, content: bytes | None, token: str = ""
    ) -> Answer:
        session = self._client.session(reference)
        login = {"Authorization": f"Bearer {token}"} if token else {}
        request = Request(
            method=method,
            url=session.url(f"/api/v1/repository/{quote(reference.repository)}/tag/{path}"),
            subject=f"tag history of {reference}",
            headers={"Content-Type" if content else "Accept": _JSON, **login},
            content=content,
        )
        return redacted(session.transport.send(request), Secrets([self._token]))

    def _failure(self, reference: Reference, answer: Answer) -> RegistryError:
        text = self._client.withhold(answer.content.decode("utf-8", "surrogateescape"))
        content = _explanation(text.encode("utf-8", "surrogateescape"))
        return failure(f"tag history of {reference}", answer.status, content)

    def _look(self, reference: Reference, host: str) -> str:
        """Check, without the token, that this is Quay and the host that the token is for."""
        url = self._client.session(reference).url("/")
        answer = self._ask("GET", reference, "?limit=1", None)
        if answer.status in TRANSIENT or answer.status >= _SERVER_FAILED:
            raise self._failure(reference, answer)
        if origin(answer.url) != origin(url) or not _is_of_quay(answer.content):
            return "no API of Quay's"
        meant, name = self._host or "quay.io", one_name(f"{host}/")
        is_part_of_quay_io = not self._host and name.endswith(".quay.io/")
        if is_part_of_quay_io or name == one_name(f"{meant}/"):
            return _IS_QUAY
        LOG.warning(
            "%s: its history is not read, as the token of Quay's API is for %s; "
            "--quay-api-token-host %s sends it there",
            *(reference, meant, host),
        )
        return f"the token is for {meant}"


def _is_of_quay(content: bytes) -> bool:
    """Whether an answer is one of Quay's API, be it a refusal."""
    with suppress(InvalidIndex):
        fields = decode(content)
        return isinstance(fields.get("tags"), list) or isinstance(fields.get("error_type"), str)
    return False


def _explanation(content: bytes) -> bytes:
    """Take the message out of a refusal of Quay's API, if it is one (RFC 7807)."""
    with suppress(InvalidIndex):
        fields = decode(content)
        message = fields.get("detail") or fields.get("message")
        return message.encode("utf-8") if isinstance(message, str) else content
    return content


def _read(content: bytes, tag: str) -> tuple[TagRow, ...]:
    """Read the rows of a tag, newest first, and leave out those of other tags."""
    listed, rows = decode(content).get("tags"), []
    if not isinstance(listed, list):
        raise InvalidIndex("tags", "expected an array")
    for number, row in enumerate(listed):
        path = f"tags[{number}]"
        if not isinstance(row, Mapping) or not isinstance(row.get("name"), str):
            raise InvalidIndex(path, "expected an object with a name")
        if row["name"] != tag:
            continue
        digest, start, end = (row.get(name) for name in ("manifest_digest", "start_ts", "end_ts"))
        if not isinstance(digest, str) or not is_registered_digest(digest):
            raise InvalidIndex(f"{path}.manifest_digest", "expected a digest")
        is_end = end is None or (type(end) is int and end <= _LAST_SECOND)
        if type(start) is not int or not is_end:
            raise InvalidIndex(f"{path}.start_ts, end_ts", "expected whole seconds")
        rows.append(TagRow(digest, start, end, is_immutable=row.get("immutable") is True))
    return tuple(sorted(rows, key=attrgetter("start"), reverse=True))
