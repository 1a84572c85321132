"""Packages that only some installations have."""

from importlib import import_module

from napari_all_detect.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, extra: str, what: str) -> None:
    """Import a package, or raise MissingDependencyError with the command that installs it.

    Parameters
    ----------
    module : str
    extra : str
        Of napari-all-detect, which brings it.
    what : str
        What needs it.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"{what} needs {module}: pip install 'napari-all-detect[{extra}]'") from error
