"""Zips of bundles and the web: both come from strangers, so both are bounded and checked before use."""

import http.client
import ssl
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from napari_all_detect import __version__
from napari_all_detect.bundle.manifest import stays_inside
from napari_all_detect.bundle.verified import readable
from napari_all_detect.errors import BundleError

__all__ = ["download", "unpack"]

MAX_BYTES = 4 * 2**30
"""No download and no unpacked zip may be larger."""

MAX_FILES = 1000
TIMEOUT_S = 30
_CHUNK = 2**20
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


def unpack(archive: Path, folder: Path, source: str) -> Path:
    """Unpack a zip of a bundle, after its list of files has been checked.

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
        The zip is damaged, encrypted or too large, holds no bundle, or a path in it leaves the folder.
    """
    try:
        with readable(source):
            zipped = zipfile.ZipFile(archive)
        with zipped:
            _check_files(zipped.infolist(), source)
            top = _top_folder(zipped.namelist(), source)
            _extract(zipped, folder, source)
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
    found = [PurePosixPath(name).parent for name in names if PurePosixPath(name).name == "bundle.json"]
    tops = [top for top in found if not top.parts] or [top for top in found if len(top.parts) == 1]
    if len(tops) != 1:
        raise BundleError(
            f"{source}: {len(tops)} bundle.json in the zip, expected one, at its top or in its only folder; "
            "zip the bundle's folder again"
        )
    return tops[0]


def _extract(zipped: zipfile.ZipFile, folder: Path, source: str) -> None:
    left = MAX_BYTES
    for info in zipped.infolist():
        if info.is_dir():
            continue
        target = folder / info.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with readable(source):
            packed = zipped.open(info)
        with packed, target.open("xb") as unpacked:
            left -= _copy(packed, unpacked, left, source)


def _copy(origin: IO[bytes], target: IO[bytes], at_most: int, source: str) -> int:
    copied = 0
    while chunk := origin.read(_CHUNK):
        copied += len(chunk)
        if copied > at_most:
            raise BundleError(f"{source}: larger than the {MAX_BYTES} bytes that a bundle may have; check the source")
        target.write(chunk)
    return copied


def download(url: str, target: Path) -> None:
    """Fetch a file over http or https, at most `MAX_BYTES` of it.

    Raises
    ------
    BundleError
        There is no connection, the server refuses, the file is too large, or the transfer broke off.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"napari-all-detect/{__version__}"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response, target.open("wb") as file:
            _check_redirect(url, response.url)
            _copy(response, file, MAX_BYTES, url)
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


def _check_redirect(url: str, final: str) -> None:
    allowed = ("https://",) if url.lower().startswith("https://") else ("http://", "https://")
    if not final.lower().startswith(allowed):
        raise BundleError(f"{url}: the server redirects to {final}, expected {' or '.join(allowed)}; refused")
