"""Why a connection failed where it is not the registry's fault: proxies and certificate bundles."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from requests.exceptions import InvalidSchema, ProxyError, SSLError
from requests.utils import select_proxy

_LOGIN_WANTED = 407
_FORBIDDEN = 403
_SERVER_FAILED = 500
PROXY_REFUSALS = (_FORBIDDEN, _LOGIN_WANTED)
_TUNNEL = r"Tunnel connection failed: (\d{3})"
# The words of several releases of OpenSSL about an answer that is no TLS.
_PLAIN = re.compile(
    r"(?i)wrong.version.number|unknown.protocol|http.request|record.layer.failure"
    r"|packet.length.too.long"
)
_HASHED = r"[0-9a-f]{8}\.\d+"  # how OpenSSL looks for an authority in a directory


def explain_connection(
    error: Exception, url: str, proxies: Mapping[str, str], verify: object
) -> str | None:
    """Say whose fault a failed connection is; none where it is the registry's, or unknown."""
    if isinstance(error, InvalidSchema) and "SOCKS" in str(error):
        proxy = _name_proxy(url, proxies)
        return f"{proxy} speaks SOCKS, which needs PySocks: install requests[socks]"
    if isinstance(error, ProxyError):
        return f"{_name_proxy(url, proxies)} {_proxy_problem(str(error))}"
    if isinstance(error, SSLError):
        problem = _bundle_problem(verify) if isinstance(verify, str) else None
        if problem is None and _PLAIN.search(str(error)):
            host = urlsplit(url).netloc.rpartition("@")[2]
            return (
                "TLS failed: the registry seems to speak plain http; "
                f"if that is meant, give --quay-host http://{host}"
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
    if status == _FORBIDDEN and not is_registry:
        return f"{_name_proxy(url, proxies)} seems to forbid this"
    return None


def is_final(error: Exception) -> bool:
    """Whether a failure of the proxy is one that another attempt does not mend."""
    if not isinstance(error, ProxyError):
        return False
    tunnel = re.search(_TUNNEL, str(error))
    if tunnel is not None:
        return int(tunnel[1]) < _SERVER_FAILED
    return "NewConnectionError" in str(error) or "only use HTTP" in str(error)


def _proxy_problem(text: str) -> str:
    tunnel = re.search(_TUNNEL, text)
    if tunnel is None:
        refused = "Connection refused" in text
        return "refuses connections" if refused else "cannot be connected to"
    if int(tunnel[1]) == _LOGIN_WANTED:
        return "wants a login (HTTP 407)"
    return f"lets nothing through (HTTP {tunnel[1]})"


def _name_proxy(url: str, proxies: Mapping[str, str]) -> str:
    """Name a proxy without its login, and the variable that it comes from."""
    proxy = select_proxy(url, dict(proxies)) or ""
    scheme, separator, rest = proxy.partition("://") if "://" in proxy else ("", "", proxy)
    shown = scheme + separator + rest.rpartition("@")[2].rstrip("/")
    names = (f"{urlsplit(url).scheme}_proxy", "all_proxy")
    variables = [each for name in names for each in (name, name.upper()) if os.environ.get(each)]
    source = f" (from {variables[0]})" if variables else ""
    return f"the proxy {shown}{source}"


def _bundle_problem(path: str) -> str | None:
    if Path(path).is_dir():
        if any(re.fullmatch(_HASHED, each.name) for each in Path(path).iterdir()):
            return None
        return f"the directory {path} has no certificates under hashed names: run openssl rehash"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=path)
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
