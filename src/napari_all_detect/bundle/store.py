"""Bundles by name or path: load, list, install."""

import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from napari_all_detect.bundle.archive import download, unpack
from napari_all_detect.bundle.manifest import Manifest, SegmenterManifest
from napari_all_detect.bundle.places import (
    as_path,
    builtin_root,
    cache_root,
    folders_in,
    publish,
    staging_in,
    user_root,
)
from napari_all_detect.bundle.verified import (
    AnyBundle,
    Bundle,
    SegmenterBundle,
    VerifiedBundle,
    files_of,
    open_folder,
    readable,
)
from napari_all_detect.digest import file_digest
from napari_all_detect.errors import BundleError, UnknownBundleError

__all__ = [
    "AnyBundle",
    "Bundle",
    "ListedBundle",
    "SegmenterBundle",
    "absolute_place",
    "install_bundle",
    "list_bundles",
    "load_any_bundle",
    "load_bundle",
    "load_segmenter",
]


@dataclass(frozen=True)
class ListedBundle:
    """A line of the list of installed bundles; a broken one has an `error`, no version, no description."""

    name: str
    version: str
    description: str
    path: Path
    builtin: bool
    scores: bool = False
    """Whether it is an ensemble, which scores cells; else it finds them, or is broken."""
    error: str | None = None

    @property
    def label(self) -> str:
        """Name and version, as a bundle's."""
        return f"{self.name}-{self.version}"


def load_bundle(name_or_path: str | Path = "lite") -> Bundle:
    """Find an ensemble's bundle, verify every file of it and return it.

    Parameters
    ----------
    name_or_path : str or Path
        The name of an installed bundle (those in the package first, then the user's), or the path of a folder
        or a zip. A name wins over a folder of that name in the working directory; `./name` or a `Path` means
        the folder.

    Raises
    ------
    BundleError
        There is no such bundle, something in it is missing, changed or not understood, or it is a segmenter's.
    """
    bundle = load_any_bundle(name_or_path)
    if not isinstance(bundle.manifest, Manifest):
        raise BundleError(f"{bundle.label} finds cells, it does not score them; use it with --segmentation")
    return VerifiedBundle(bundle.manifest, bundle.folder, bundle.digest)


def load_segmenter(name_or_path: str | Path) -> SegmenterBundle:
    """Find the bundle of a network that finds cells; as `load_bundle` otherwise."""
    bundle = load_any_bundle(name_or_path)
    if not isinstance(bundle.manifest, SegmenterManifest):
        raise BundleError(f"{bundle.label} scores cells, it does not find them; use it with --bundle")
    return VerifiedBundle(bundle.manifest, bundle.folder, bundle.digest)


def load_any_bundle(name_or_path: str | Path) -> AnyBundle:
    """Find a bundle of either kind; as `load_bundle` otherwise."""
    if isinstance(name_or_path, str):
        folder = _installed_folder(name_or_path)
        if folder is not None:
            return _open_installed(folder)
    return _load_path(name_or_path)


def list_bundles() -> list[ListedBundle]:
    """List the installed bundles, those in the package first; each is verified, and a broken one says why.

    So does the user's folder, as the last, if it can't be read.
    """
    builtin = folders_in(builtin_root())
    taken = {folder.name for folder in builtin}
    listed, root = [_listed(folder, builtin=True) for folder in builtin], user_root()
    try:
        return listed + [_listed(folder, builtin=False, hidden=folder.name in taken) for folder in folders_in(root)]
    except BundleError as error:
        return [*listed, ListedBundle(root.name, "", "", root, builtin=False, error=f"{error}; or set ALL_DETECT_HOME")]


def install_bundle(file_or_url: str | Path) -> AnyBundle:
    """Copy a bundle into the user's folder, whole and verified or not at all.

    Parameters
    ----------
    file_or_url : str or Path
        A folder, a zip, or a URL (http, https, file) of a zip. `bundle.json`, the model card and the weights
        are kept, other files are not.

    Returns
    -------
    AnyBundle
        The installed one. That the same one was there already is no error.

    Raises
    ------
    BundleError
        It can't be fetched or verified, its name is that of a bundle in the package, or another bundle of
        that name is installed.
    """
    root = user_root()
    with staging_in(root) as staging:
        bundle = _fetch(str(file_or_url), staging)
        name = bundle.manifest.name
        if name in {folder.name for folder in folders_in(builtin_root())}:
            raise BundleError(f"{file_or_url}: {name!r} is the name of a built-in bundle; give it another name")
        if not (root / name).exists():
            publish(_copy_of(bundle, staging / "copy"), root / name)
    return _same_as(bundle, root / name)


def absolute_place(name_or_path: str) -> str:
    """Return what names the same bundle from any working directory: an installed one's name, or an absolute path."""
    if not name_or_path or _installed_folder(name_or_path) is not None or not as_path(name_or_path).exists():
        return name_or_path
    return os.path.abspath(as_path(name_or_path))  # noqa: PTH100 - keeps links


def _installed_folder(name: str) -> Path | None:
    for root in (builtin_root(), user_root()):
        for folder in folders_in(root):
            if folder.name == name:
                return folder
    return None


def _open_installed(folder: Path) -> AnyBundle:
    bundle = open_folder(folder)
    if bundle.manifest.name != folder.name:
        raise BundleError(f"{folder}: the folder holds the bundle {bundle.manifest.name!r}; give the folder that name")
    return bundle


def _listed(folder: Path, builtin: bool, hidden: bool = False) -> ListedBundle:
    if hidden:
        error = f"{folder}: hidden by the built-in bundle of that name; remove the folder"
        return ListedBundle(folder.name, "", "", folder, builtin, error=error)
    try:
        manifest = _open_installed(folder).manifest
    except BundleError as broken:
        return ListedBundle(folder.name, "", "", folder, builtin, error=str(broken))
    scores = isinstance(manifest, Manifest)
    return ListedBundle(manifest.name, manifest.version, manifest.description, folder, builtin, scores)


def _load_path(name_or_path: str | Path) -> AnyBundle:
    text = str(name_or_path)
    if "://" in text:
        raise BundleError(f"{text}: expected a name or a path; install it first: all-detect bundles install {text}")
    path = as_path(text)
    with readable(text):
        if text and path.is_dir():
            return open_folder(path)
        if path.is_file():
            return _load_zip(path)
    if isinstance(name_or_path, Path) or path.suffix.lower() == ".zip" or "/" in text or os.sep in text:
        raise BundleError(f"{text}: no such file; expected a bundle's folder or a zip of it: check the path")
    names = [folder.name for root in (builtin_root(), user_root()) for folder in folders_in(root)]
    raise UnknownBundleError(
        f"no bundle is named {text!r}; installed: {', '.join(names) or 'none'}; "
        "install one with: all-detect bundles install FILE_OR_URL"
    )


def _load_zip(archive: Path) -> AnyBundle:
    target = cache_root() / file_digest(archive)
    if target.exists():
        try:
            return open_folder(target)
        except BundleError:
            shutil.rmtree(target, ignore_errors=True)
    with staging_in(target.parent) as staging:
        folder = unpack(archive, staging / "zip", str(archive))
        open_folder(folder, str(archive))
        publish(folder, target)
    return open_folder(target, str(archive))


def _fetch(file_or_url: str, staging: Path) -> AnyBundle:
    path = as_path(file_or_url)
    if "://" in file_or_url:
        path = _from_url(file_or_url, staging)
    with readable(file_or_url):
        is_folder, exists = path.is_dir(), path.exists()
    if is_folder:
        return open_folder(path, file_or_url)
    if not exists:
        raise BundleError(f"{file_or_url}: no such file; expected a folder, a zip or a URL of a zip: check the path")
    return open_folder(unpack(path, staging / "zip", file_or_url), file_or_url)


def _from_url(url: str, staging: Path) -> Path:
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "file" and rest.startswith(("/", "localhost/")):
        return Path(urllib.request.url2pathname(urlsplit(url).path))
    if scheme.lower() not in ("http", "https"):
        raise BundleError(f"{url}: expected http://, https:// or file:///; download it yourself and install the file")
    download(url, staging / "download.zip")
    return staging / "download.zip"


def _copy_of(bundle: AnyBundle, folder: Path) -> Path:
    for name in files_of(bundle.manifest):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / name, target)
    open_folder(folder)
    return folder


def _same_as(bundle: AnyBundle, folder: Path) -> AnyBundle:
    try:
        installed = _open_installed(folder)
    except BundleError as error:
        raise BundleError(f"the installed bundle is broken: {error}; remove {folder} and install again") from error
    if installed.digest != bundle.digest:
        raise BundleError(
            f"another bundle named {bundle.manifest.name!r} is installed: {installed.label}, this one is "
            f"{bundle.label}; remove {folder} and install again"
        )
    return installed
