"""Zips of bundles and the web: both come from strangers, so both are bounded and checked before use."""

import http.client
import shutil
import ssl
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from napari_all_detect import __version__
from napari_all_detect.bundle.manifest import stays_inside
from napari_all_detect.bundle.verified import MANIFEST, files_of, read_manifest, readable
from napari_all_detect.errors import BundleError

__all__ = ["download", "unpack"]

MAX_BYTES = 4 * 2**30
"""No download and no unpacked zip may be larger."""

MAX_FILES = 1000
TIMEOUT_S = 30
PATIENCE_S, LEAST_BYTES = 60, 60_000
"""Of a download, so many bytes must come in any such time."""

_CHUNK = 2**20
_SAME_PLACE = (FileExistsError, NotADirectoryError)
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, *_SAME_PLACE)


def unpack(archive: Path, folder: Path, source: str) -> Path:
    """Unpack the files of a bundle from a zip of it, after the zip's list of files has been checked.

    Parameters
    ----------
    archive : Path
        The zip. Its files lie at its top or in one folder.
    folder : Path
        Where to unpack; doesn't exist yet.
    source : str
        What the user knows the zip as; error messages begin with it.

    Returns
    -------
    Path
        The folder that holds `bundle.json`: `folder` or one in it.

    Raises
    ------
    BundleError
        The zip is damaged, encrypted or too large, holds no bundle, or a path in it leaves the folder; or
        `bundle.json` isn't understood.
    """
    try:
        with readable(source):
            zipped = zipfile.ZipFile(archive)
        with zipped:
            _check_files(zipped.infolist(), source)
            top = _top_folder(zipped.namelist(), source)
            _extract(zipped, folder, {top / MANIFEST}, source)
            _, manifest = read_manifest(folder / top, source)
            _extract(zipped, folder, {top / name for name in files_of(manifest) - {MANIFEST}}, source)
    except _DAMAGED as error:
        reason = str(error) or "it ends too early"
        raise BundleError(f"{source}: expected a sound zip ({reason}); get the file again") from error
    return folder / top


def _check_files(infos: list[zipfile.ZipInfo], source: str) -> None:
    size = sum(info.file_size for info in infos)
    if size > MAX_BYTES or len(infos) > MAX_FILES:
        raise BundleError(
            f"{source}: {size} bytes in {len(infos)} files when unpacked, expected at most {MAX_BYTES} in "
            f"{MAX_FILES}; get the bundle from a source that you trust"
        )
    if len({info.filename.casefold() for info in infos}) < len(infos):
        raise BundleError(f"{source}: two files in the zip have the same name; zip the bundle's folder again")
    for info in infos:
        _check_file(info, source)


def _check_file(info: zipfile.ZipInfo, source: str) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not stays_inside(info.filename):
        reason = "leaves the folder"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        reason = "is a link or a device"
    elif info.flag_bits & 0x1:
        reason = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = "is compressed in another way than deflate"
    else:
        return
    raise BundleError(
        f"{source}: {info.filename!r} in the zip {reason}, only plain files inside it are expected; "
        "zip the bundle's folder again or get it from a source that you trust"
    )


def _top_folder(names: list[str], source: str) -> PurePosixPath:
    found = [PurePosixPath(name).parent for name in names if PurePosixPath(name).name == MANIFEST]
    tops = [top for top in found if not top.parts] or [top for top in found if len(top.parts) == 1]
    if len(tops) != 1:
        raise BundleError(
            f"{source}: {len(tops)} bundle.json in the zip, expected one, at its top or in its only folder; "
            "zip the bundle's folder again"
        )
    return tops[0]


def _extract(zipped: zipfile.ZipFile, folder: Path, wanted: Collection[PurePosixPath], source: str) -> None:
    for info in zipped.infolist():
        if info.is_dir() or PurePosixPath(info.filename) not in wanted:
            continue
        target = folder / info.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with readable(source):
            packed = zipped.open(info)
        with packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, _CHUNK)  # no more than the size that was checked


def download(url: str, target: Path) -> None:
    """Fetch a file over http or https, at most `MAX_BYTES` of it.

    Raises
    ------
    BundleError
        There is no connection, the server refuses, the file is too large, or the transfer broke off or hardly goes on.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"napari-all-detect/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            _check_redirect(url, response.url)
            _write(_paced(response, url), file, url)
            if response.length:
                raise BundleError(f"{url}: broke off {response.length} bytes before the end; try again")
    except urllib.error.HTTPError as error:
        with error:
            raise BundleError(
                f"{url}: the server answered {error.code} {error.reason}, expected a zip; check the address"
            ) from error
    except (urllib.error.URLError, ssl.SSLError, ConnectionError, TimeoutError) as error:
        raise BundleError(f"{url}: no connection ({error}); check the network and the address") from error
    except (http.client.HTTPException, ValueError) as error:
        raise BundleError(f"{url}: can't be fetched ({error!r}); check the address and try again") from error


def _paced(response: http.client.HTTPResponse, url: str) -> Iterator[bytes]:
    """Yield what comes, as it comes; give up when that is next to nothing."""
    began, came = time.monotonic(), 0
    while chunk := response.read1(_CHUNK):
        yield chunk
        came, took = came + len(chunk), time.monotonic() - began
        if took > PATIENCE_S:
            if came < LEAST_BYTES:
                raise BundleError(f"{url}: only {came} bytes came in {took:.0f} s; try again later")
            began, came = time.monotonic(), 0


def _write(chunks: Iterable[bytes], file: IO[bytes], url: str) -> None:
    written = 0
    for chunk in chunks:
        written += len(chunk)
        if written > MAX_BYTES:
            raise BundleError(f"{url}: larger than the {MAX_BYTES} bytes that a bundle may have; check the source")
        file.write(chunk)


def _check_redirect(url: str, final: str) -> None:
    allowed = ("https://",) if url.lower().startswith("https://") else ("http://", "https://")
    if not final.lower().startswith(allowed):
        raise BundleError(f"{url}: the server redirects to {final}, expected {' or '.join(allowed)}; refused")
