"""Paths on this machine, and URLs that behave like them."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from napari_all_detect.errors import MissingDependencyError

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = [
    "absolute",
    "as_place",
    "has_query",
    "is_remote",
    "name_parts",
    "network_errors",
    "unreachable",
    "without_login",
    "without_secrets",
    "without_slash",
    "zarr_place",
]

CONNECT_S, READ_S = 15.0, 60.0
"""How long a web server may take to accept a connection, and to send the next piece of an answer."""

# A user alone is left out of a web address only: what Azure has there, `abfs://container@account`, is no login.
_LOGIN = re.compile(r"(https?://|://(?=[^/\s@]*:))[^/\s]*@", re.IGNORECASE)
# A quote may be part of an address; at its end it belongs, as other marks do, to the sentence around it.
_QUERY = re.compile(r"""(https?://[^\s?#"<>]*[?#])[^\s"<>]*(?<![:;,.)\]'])""", re.IGNORECASE)


def as_place(given: str | Path) -> Path:
    """Return what a user typed as a path, or a URL (`https://`, `s3://`, whatever fsspec knows) as something like one.

    What looks like a URL and is none that fsspec knows stays a path: `open_planes` says so of it, to spoil no other
    input.

    Raises
    ------
    MissingDependencyError
        If it is a URL and the package for it is not installed.
    """
    if isinstance(given, Path) or "://" not in str(given):
        return Path(given)
    try:
        from upath import UPath

        place = UPath(str(given), **_options(str(given)))
        place.fs  # noqa: B018 - imports the package for this kind of URL
    except ImportError as error:
        raise MissingDependencyError(
            f"{given} needs a package that is not installed ({error}): pip install 'napari-all-detect[remote]'"
        ) from error
    except ValueError:
        return Path(given)
    return cast(Path, place)


def absolute(place: Path) -> Path:
    """Return what tells whether two places are the same; not `resolve()`: a link to an image keeps the link's name."""
    return place if is_remote(place) else Path(os.path.abspath(place))  # noqa: PTH100


def is_remote(place: Path) -> bool:
    """Return whether it is a URL."""
    return not isinstance(place, Path)


def has_query(place: Path) -> bool:
    """Return whether it is a web address with a query: `https://host/smear.png?signature=...`."""
    if not is_remote(place):
        return False
    url = urlsplit(str(place))
    return url.scheme in ("http", "https") and bool(url.query)


def name_parts(place: Path) -> tuple[str, ...]:
    """Return the parts of an absolute path, or of a URL, its server or bucket first, by which an image is named.

    A query may hold a signature, or what no file may be called: a digest stands for it, before the path.
    """
    if not is_remote(place):
        return tuple(place.parts[1:])
    url = urlsplit(str(place))
    server = [name.replace(":", "_")] if (name := url.netloc.rpartition("@")[2]) else []  # no password
    if not has_query(place):
        return (*server, *without_slash(place).parts[1:])
    digest = hashlib.sha256(url.query.encode()).hexdigest()[:8]
    return (*server, f"query-{digest}", *(part for part in url.path.split("/") if part))


def without_slash(place: Path) -> Path:
    """Return a web address without a slash at its end, after which its last part would be an empty one."""
    return place if not is_remote(place) or has_query(place) else as_place(str(place).rstrip("/"))


def without_login(address: str) -> str:
    """Return a URL, or a text with some, without the user and the password before the server.

    >>> without_login("ftp://joe:secret@host/a.png")
    'ftp://host/a.png'
    """
    return _LOGIN.sub(r"\1", address)


def without_secrets(text: str) -> str:
    """Return a text that may be shown to anybody: its URLs lose users, passwords, queries and fragments.

    >>> without_secrets("http://joe:secret@host/a.png?sig=secret: can't be read")
    "http://host/a.png?...: can't be read"
    """
    return _QUERY.sub(r"\1...", without_login(text))


def zarr_place(place: Path) -> Path | Store:
    """Return what zarr opens to read."""
    if not is_remote(place):
        return place
    from zarr.storage import FsspecStore

    return FsspecStore.from_url(str(place), storage_options=_options(str(place)), read_only=True)


def _options(address: str) -> dict[str, Any]:
    """Return for a web address how long its server may say nothing: aiohttp by itself waits for five minutes."""
    if not address.startswith(("http://", "https://")):
        return {}
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S)}}


def unreachable() -> tuple[type[Exception], ...]:
    """Return the errors of a disk or a server."""
    return (OSError, *network_errors())


def network_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the libraries behind URLs, as far as those are in use."""
    names = {"aiohttp": ["ClientError"], "botocore.exceptions": ["BotoCoreError", "ClientError"]}
    return tuple(
        getattr(sys.modules[module], name) for module in names if module in sys.modules for name in names[module]
    )
