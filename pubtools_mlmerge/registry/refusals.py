"""Turns refusals by registries and proxies into errors without our secrets."""

from __future__ import annotations

import json
import os
import re
import ssl
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from html import unescape
from pathlib import Path
from urllib.parse import unquote, unquote_plus, urlsplit

from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,  # noqa: A004 - the library's
    InvalidSchema,
    InvalidURL,
    ProxyError,
    RequestException,
    SSLError,
    Timeout,
)
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from pubtools_mlmerge.errors import (
    Forbidden,
    ImmutableTag,
    MissingChild,
    NotFound,
    RegistryError,
    Unauthorized,
    brief,
)

_DIGEST = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "TAG_EXPIRED", "BLOB_UNKNOWN"})
_IMMUTABLE = frozenset({"TAG_IMMUTABLE", "TAG_ALREADY_EXISTS", "PRECONDITION"})
# Artifact Registry (with MANIFEST_INVALID); ECR and Alibaba.
_SAYS_IMMUTABLE = re.compile(
    r"(?i)has enabled tag immutability|already exists\b.{0,80}\bcannot be overwritten"
)
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _LOGIN_WANTED = 400, 401, 403, 404, 407
_SERVER_FAILED = 500
_UNKNOWN_HOST = "Name or service not known"  # the resolver's words
_TUNNEL = r"Tunnel connection failed: (\d{3})"
# The words of several releases of OpenSSL about an answer that is no TLS.
_PLAIN = re.compile(
    r"(?i)wrong.version.number|unknown.protocol|http.request|record.layer.failure"
    r"|packet.length.too.long"
)
_UNKNOWN_AUTHORITY = re.compile(r"(?i)self.signed certificate[\w ]*|unable to get [\w ]*")
# Where distributions keep what the system trusts; Python knows it of some of them.
_SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_HASHED = r"[0-9a-f]{8}\.\d+"  # how OpenSSL looks for an authority in a directory
_MOST_TEXT = 64 * 1024  # bytes of an error body that are looked at


def failure(reference: str, status: int, body: bytes = b"") -> RegistryError:
    """Turn a refusal into the error that a caller may handle."""
    text = body[:_MOST_TEXT].decode("utf-8", "replace")
    codes, messages = _read(text)
    message = redact("; ".join(dict.fromkeys(messages)) or ("" if "<" in text else text))
    # The code of distribution, and the words of Quay.
    in_quays_words = status == _BAD_REQUEST and "child manifest" in text
    if "MANIFEST_BLOB_UNKNOWN" in codes or (in_quays_words and "MANIFEST_INVALID" in codes):
        digests = tuple(dict.fromkeys(re.findall(_DIGEST, text)))
        return MissingChild(reference, status, message, digests)
    return _kind(status, codes, message)(reference, status, message)


def _kind(status: int, codes: set[str], message: str) -> type[RegistryError]:
    if status == _UNAUTHORIZED:
        return Unauthorized
    # Repositories and annotations may have the word in them: it counts where a PUT is refused,
    # and not where the answer quotes the document or says that there is nothing.
    said = "immutable" in message.lower() and not codes & {"MANIFEST_INVALID", *_ABSENT}
    said = said or _SAYS_IMMUTABLE.search(message) is not None
    said = said or (status == 405 and "DENIED" in codes)  # noqa: PLR2004 - a lock of Azure's
    if status in (409, 412) or codes & _IMMUTABLE or (said and status != _NOT_FOUND):
        return ImmutableTag
    if status == _FORBIDDEN or "DENIED" in codes:
        return Forbidden
    return NotFound if status == _NOT_FOUND or codes & _ABSENT else RegistryError


def _read(text: str) -> tuple[set[str], list[str]]:
    """Collect the codes and the messages of the standard error document, if it is one."""
    try:
        document: object = json.loads(text)
    except (ValueError, RecursionError):
        return set(), []
    listed = document.get("errors") if isinstance(document, dict) else None
    codes, messages = set(), []
    for error in listed if isinstance(listed, list) else ():
        if isinstance(error, dict):
            detail, code = error.get("detail"), str(error.get("code", ""))
            inner = detail.get("message") if isinstance(detail, dict) else None
            found = [text for text in (error.get("message"), inner) if isinstance(text, str)]
            codes.add(code)
            messages += [*filter(None, found)] or [code]
    return codes, messages


WITHHELD = "(text withheld, as it repeats a password or a token)"
# An Authorization header, whose secret need not be known here.
_LOGIN = re.compile(r"(?i)\b(basic|bearer)[ +:]+[\w.~+/-]{16,}=*")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORTEST = 6  # characters of base64 that are not in a text by chance
_LONGEST_END = 32


class Secrets:
    """Texts that must not show up. A search takes no longer for thousands of them.

    Of long ones only the ends are looked for; those of tokens are as random as the whole.
    """

    def __init__(self, texts: Iterable[str] = (), beside: Secrets | None = None) -> None:
        self.ends: dict[int, Counter[str]] = {}  # by their length
        self._lock = threading.Lock()
        self._beside = beside
        for text in texts:
            self.add(text)

    @classmethod
    def of(cls, texts: Secrets | Iterable[str]) -> Secrets:
        """Prepare to look for texts, unless that was done."""
        return texts if isinstance(texts, Secrets) else cls(texts)

    def add(self, text: str, replaced: str = "") -> None:
        """Look for one more, and no longer for the one that it replaces."""
        with self._lock:
            for end in _ends(text):
                self.ends.setdefault(len(end), Counter())[end] += 1
            for end in _ends(replaced):
                self.ends[len(end)][end] -= 1
                if not self.ends[len(end)][end]:
                    del self.ends[len(end)][end]

    def shown_in(self, text: str) -> bool:
        """Whether one is in a text: as it is, in base64, or escaped in JSON, HTML or a URL."""
        known = [*self.ends.items(), *(self._beside.ends.items() if self._beside else ())]
        readings = {text} if known else set()
        for _ in range(2):  # such as JSON within JSON
            readings |= {read(each) for each in readings for read in _READERS}
        return any(_are_in(reading, *each) for reading in readings for each in known)


def redact(text: str, secrets: Secrets | Iterable[str] = ()) -> str:
    """Withhold a text that shows a secret, and blank in any other what looks like a login."""
    return WITHHELD if Secrets.of(secrets).shown_in(text) else _LOGIN.sub(r"\1 ***", text)


def _are_in(text: str, length: int, ends: Mapping[str, int]) -> bool:
    """Look for each of the ends, or where they are more, for each piece of the text among them."""
    if len(ends) <= len(text):
        return any(end in text for end in tuple(ends))
    return any(text[at : at + length] in ends for at in range(len(text) - length + 1))


def _ends(secret: str) -> list[str]:
    forms = (secret, *_in_base64(secret)) if secret else ()
    return [form[-_LONGEST_END:] for form in forms]


def _in_base64(secret: str) -> Iterator[str]:
    """Encode a secret, with 0 to 2 bytes before it, and give the part that it alone decides."""
    for before in range(3):
        content = bytes(before) + secret.encode("utf-8", "surrogateescape")
        part = b64encode(content)[before and before + 1 : len(content) * 8 // 6].decode()
        if len(part) >= _SHORTEST:
            yield from (part, part.replace("+", "-").replace("/", "_"))


def _read_json(text: str) -> str:
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    # Two escapes may be one character.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_READERS = (_read_json, unescape, unquote, unquote_plus)


# Connections that fail for another reason than the registry: proxies, certificate bundles


def without_url(error: Exception, problem: str) -> RequestException:
    """Make the same error without the URL, whose query may be a signature; tracebacks show it."""
    kind = type(error) if isinstance(error, RequestException) else RequestException
    return kind(brief(problem))


def explain(error: Exception) -> str:
    """Say in a few words what broke; the library's own text goes on for lines."""
    text = str(error)
    if isinstance(error, SSLError):
        return f"TLS failed: {text.rpartition('(Caused by ')[2].rstrip(')')}"
    if isinstance(error, InvalidURL) or not isinstance(error, (RequestException, HTTPError)):
        return text.partition("?")[0]
    if isinstance(error, Timeout):
        return "no answer in time"
    if "Connection refused" in text:
        return "connection refused"
    is_unknown = _UNKNOWN_HOST in text or "name resolution" in text
    return "unknown host" if is_unknown else f"connection broken ({type(error).__name__})"


def explain_connection(
    error: Exception, url: str, proxies: Mapping[str, str], verify: object
) -> str | None:
    """Name the culprit of a failed connection; None if it is the registry, or unknown."""
    if isinstance(error, InvalidSchema) and "SOCKS" in str(error):
        proxy = _name_proxy(url, proxies)
        return f"{proxy} speaks SOCKS, which needs PySocks: install requests[socks]"
    if isinstance(error, ProxyError):
        return f"{_name_proxy(url, proxies)} {_read_proxy(str(error))[0]}"
    if isinstance(error, SSLError):
        problem = _bundle_problem(verify) if isinstance(verify, str) else None
        if problem is None and _PLAIN.search(str(error)):
            advice = f"give --quay-host http://{urlsplit(url).netloc.rpartition('@')[2]}"
            return f"TLS failed: the registry seems to speak plain http; if so, {advice}"
        unknown = _UNKNOWN_AUTHORITY.search(str(error))
        if problem is None and unknown is not None and verify is True:
            return (
                f"TLS failed: the authorities that come with requests do not know the certificate "
                f"({unknown[0]}); where the system's do, set REQUESTS_CA_BUNDLE={_system_store()}, "
                f"else give --ca-bundle"
            )
        return problem
    return None


def explain_answer(
    status: int, headers: Mapping[str, str], url: str, proxies: Mapping[str, str]
) -> str | None:
    """Say whether an answer to plain http, which a proxy can read, is a refusal of the proxy."""
    if not url.startswith("http://") or not select_proxy(url, dict(proxies)):
        return None
    if status == _LOGIN_WANTED:
        return f"{_name_proxy(url, proxies)} wants a login"
    is_registry = "json" in headers.get("Content-Type", "").lower() or any(
        name in headers for name in ("Docker-Distribution-Api-Version", "WWW-Authenticate")
    )
    is_refusal = status == _FORBIDDEN and not is_registry
    advice = f"allow {urlsplit(url).hostname} there, or name it in no_proxy"
    problem = f"{_name_proxy(url, proxies)} seems to forbid this; {advice}"
    return problem if is_refusal else None


def _system_store() -> str:
    known = (ssl.get_default_verify_paths().cafile, *_SYSTEM_STORES)
    return next((each for each in known if each and Path(each).exists()), "FILE")


def is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed, as after a broken connection."""
    if isinstance(error, SSLError) or _UNKNOWN_HOST in str(error):
        return False
    if isinstance(error, ProxyError) and _read_proxy(str(error))[1]:
        return False
    return isinstance(error, (ConnectionError, Timeout, ChunkedEncodingError))


def _read_proxy(text: str) -> tuple[str, bool]:
    """Describe a proxy's failure, and whether it is final."""
    tunnel = re.search(_TUNNEL, text)
    if tunnel is None:
        verb = "refuses" if "Connection refused" in text else "accepts no"
        return f"{verb} connections", "NewConnectionError" in text or "only use HTTP" in text
    problem = "wants a login" if int(tunnel[1]) == _LOGIN_WANTED else "lets nothing through"
    return f"{problem} (HTTP {tunnel[1]})", int(tunnel[1]) < _SERVER_FAILED


def _name_proxy(url: str, proxies: Mapping[str, str]) -> str:
    """Name a proxy without its login, and the variable that it comes from."""
    proxy = select_proxy(url, dict(proxies)) or ""
    scheme, separator, rest = proxy.partition("://") if "://" in proxy else ("", "", proxy)
    shown = scheme + separator + rest.rpartition("@")[2].rstrip("/")
    return f"the proxy {shown}{_source_of(url)}"


def _source_of(url: str) -> str:
    names = (f"{urlsplit(url).scheme}_proxy", "all_proxy")
    variables = [each for name in names for each in (name, name.upper()) if os.environ.get(each)]
    return f" (from {variables[0]})" if variables else ""


def check_proxy(url: str, proxies: Mapping[str, str]) -> None:
    """Raise ValueError where the http library cannot read the URL of a proxy.

    Its own error repeats the URL, all of which may be a password then.
    """
    proxy = select_proxy(url, dict(proxies))
    if not proxy:
        return
    with suppress(HTTPError):
        if parse_url(proxy if "://" in proxy else f"http://{proxy}").host:
            return
    raise ValueError(f"the proxy{_source_of(url)} is no URL: expected http://HOST:PORT")


def proxy_secrets() -> Iterator[str]:
    """The logins in the URLs of proxies, which programs repeat where they cannot read them."""
    for name, value in os.environ.items():
        login, at, _ = value.rpartition("@")
        if at and name.lower().endswith("_proxy"):
            login = login.rpartition("://")[2]
            yield from (login, login.partition(":")[2], unquote(login.partition(":")[2]))


def _bundle_problem(path: str) -> str | None:
    if Path(path).is_dir():
        if any(re.fullmatch(_HASHED, each.name) for each in Path(path).iterdir()):
            return None
        return f"the directory {path} has no certificates under hashed names: run openssl rehash"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError:
        return f"the bundle {path} holds no readable certificates"
    return None


def read_authorities(path: Path) -> bytes:
    """Read a bundle, or all certificates of a directory of them, in PEM format."""
    if not path.is_dir():
        return path.read_bytes()
    # Most are there twice: by their name, and by that of their hash, which links to it.
    files = {each.resolve(): None for each in sorted(path.iterdir()) if each.is_file()}
    contents = [each.read_bytes() for each in files]
    return b"\n".join(dict.fromkeys(c for c in contents if b"-----BEGIN CERTIFICATE" in c))
