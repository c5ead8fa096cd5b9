"""Connections that fail: unknown hosts, proxies, certificates, and what to do about each."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from pubtools_mlmerge.errors import brief

_FORBIDDEN, _LOGIN_WANTED, _SERVER_FAILED = 403, 407, 500
_UNKNOWN_HOST = "Name or service not known"  # the resolver's words
_PROBLEMS = {
    "Connection refused": "connection refused",
    _UNKNOWN_HOST: "unknown host",
    "name resolution": "unknown host",
}
_TUNNEL = r"Tunnel connection failed: (\d{3})"
# The words of several releases of OpenSSL about an answer that is no TLS.
_PLAIN = re.compile(
    r"(?i)wrong.version.number|unknown.protocol|http.request|record.layer.failure"
    r"|packet.length.too.long"
)
# A connection that ends without the end that TLS has, as overloaded load balancers close it.
_HUNG_UP = re.compile(r"(?i)EOF occurred|unexpected.eof|closed \(EOF\)")
_UNKNOWN_AUTHORITY = re.compile(r"(?i)self.signed certificate[\w ]*|unable to get [\w ]*")
# Where distributions keep what the system trusts; Python knows it of some of them.
_SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_HASHED = r"[0-9a-f]{8}\.\d+"  # how OpenSSL looks for an authority in a directory


def without_url(error: Exception, problem: str) -> RequestException:
    """Make the same error without the URL, whose query may be a signature; tracebacks show it."""
    kind = type(error) if isinstance(error, RequestException) else RequestException
    return kind(brief(problem))


def explain(error: Exception, url: str, proxy: str, verify: object) -> str:
    """Say in a few words what broke, and whose fault it is; the library goes on for lines."""
    text = str(error)
    if isinstance(error, InvalidSchema) and "SOCKS" in text:
        return f"{proxy} speaks SOCKS, which needs PySocks: install requests[socks]"
    if isinstance(error, ProxyError):
        return f"{proxy} {_read_proxy(text)[0]}"
    if isinstance(error, SSLError):
        return _explain_tls(text, url, verify)
    if isinstance(error, InvalidURL) or not isinstance(error, (RequestException, HTTPError)):
        return text.partition("?")[0]
    if isinstance(error, Timeout):
        return "no answer in time"
    known = (problem for words, problem in _PROBLEMS.items() if words in text)
    return next(known, f"connection broken ({type(error).__name__})")


def _explain_tls(text: str, url: str, verify: object) -> str:
    problem = _bundle_problem(verify) if isinstance(verify, str) else None
    if problem is not None:
        return problem
    if _HUNG_UP.search(text):
        return "TLS failed: the other side closed the connection"
    if _PLAIN.search(text):
        advice = f"give --quay-host http://{urlsplit(url).netloc.rpartition('@')[2]}"
        return f"TLS failed: the registry seems to speak plain http; if so, {advice}"
    unknown = _UNKNOWN_AUTHORITY.search(text)
    if unknown is not None and verify is True:
        known = (ssl.get_default_verify_paths().cafile, *_SYSTEM_STORES)
        store = next((each for each in known if each and Path(each).exists()), "FILE")
        return (
            f"TLS failed: the authorities that come with requests do not know the certificate "
            f"({unknown[0]}); where the system's do, set REQUESTS_CA_BUNDLE={store}, "
            f"else give --ca-bundle"
        )
    return f"TLS failed: {text.rpartition('(Caused by ')[2].rstrip(')')}"


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


def is_transient(error: Exception) -> bool:
    """Whether another attempt may succeed, as after a broken connection."""
    if isinstance(error, SSLError):
        return _HUNG_UP.search(str(error)) is not None
    if _UNKNOWN_HOST in str(error):
        return False
    if isinstance(error, ProxyError) and _read_proxy(str(error))[1]:
        return False
    return isinstance(error, (ConnectionError, Timeout, ChunkedEncodingError))


# Proxies


def name_proxy(proxy: str, url: str) -> str:
    """Name the proxy for a URL, without its login, and the variable that it comes from.

    Raises:
        ValueError: When the http library cannot read its URL. The library's own error repeats
            that, and all of it may be a password then.
    """
    names = (f"{urlsplit(url).scheme}_proxy", "all_proxy")
    variables = [each for name in names for each in (name, name.upper()) if os.environ.get(each)]
    source = f" (from {variables[0]})" if variables else ""
    scheme, separator, rest = proxy.partition("://") if "://" in proxy else ("", "", proxy)
    with suppress(HTTPError):
        if parse_url(proxy if separator else f"http://{proxy}").host:
            return f"the proxy {scheme}{separator}{rest.rpartition('@')[2].rstrip('/')}{source}"
    raise ValueError(f"the proxy{source} is no URL: expected http://HOST:PORT")


def explain_refusal(proxy: str, status: int, headers: Mapping[str, str], url: str) -> str | None:
    """Say whether an answer to plain http, which a proxy can read, is a refusal of the proxy."""
    if status == _LOGIN_WANTED:
        return f"{proxy} wants a login"
    is_registry = "json" in headers.get("Content-Type", "").lower() or any(
        name in headers for name in ("Docker-Distribution-Api-Version", "WWW-Authenticate")
    )
    if status != _FORBIDDEN or is_registry:
        return None
    advice = f"allow {urlsplit(url).hostname} there, or name it in no_proxy"
    return f"{proxy} seems to forbid this; {advice}"


def _read_proxy(text: str) -> tuple[str, bool]:
    """Describe a proxy's failure, and whether it is final."""
    tunnel = re.search(_TUNNEL, text)
    if tunnel is None:
        verb = "refuses" if "Connection refused" in text else "accepts no"
        return f"{verb} connections", "NewConnectionError" in text or "only use HTTP" in text
    problem = "wants a login" if int(tunnel[1]) == _LOGIN_WANTED else "lets nothing through"
    return f"{problem} (HTTP {tunnel[1]})", int(tunnel[1]) < _SERVER_FAILED


def proxy_secrets() -> Iterator[str]:
    """The logins in the URLs of proxies, which programs repeat where they cannot read them."""
    for name, value in os.environ.items():
        login, at, _ = value.rpartition("@")
        if at and name.lower().endswith("_proxy"):
            login = login.rpartition("://")[2]
            yield from (login, login.partition(":")[2], unquote(login.partition(":")[2]))


def read_authorities(path: Path) -> bytes:
    """Read a bundle, or all certificates of a directory of them, in PEM format."""
    if not path.is_dir():
        return path.read_bytes()
    # Most are there twice: by their name, and by that of their hash, which links to it.
    files = {each.resolve(): None for each in sorted(path.iterdir()) if each.is_file()}
    contents = [each.read_bytes() for each in files]
    return b"\n".join(dict.fromkeys(c for c in contents if b"-----BEGIN CERTIFICATE" in c))
