"""The errors that this package raises on a user's input.

Each message says what came, what was expected and what to do; the command line prints it as one line.
"""

__all__ = [
    "AllDetectError",
    "BundleError",
    "InputError",
    "MissingDependencyError",
    "OutputError",
    "ParameterError",
    "StoreError",
    "UnknownBundleError",
]


class AllDetectError(Exception):
    """Base of every error that is the input's or the installation's, not the program's."""


class InputError(AllDetectError):
    """An image, a label image or a sample sheet can't be read or can't be used."""


class StoreError(InputError):
    """A disk or server did not answer, or broke off: trying again may help."""


class BundleError(AllDetectError):
    """A model bundle is missing, damaged or not understood."""


class UnknownBundleError(BundleError):
    """No bundle of this name is installed."""


class OutputError(AllDetectError):
    """Results can't be written where the user wants them."""


class MissingDependencyError(AllDetectError):
    """An optional package is needed; the message holds the exact command that installs it."""


class ParameterError(AllDetectError, ValueError):
    """A parameter lies outside its range."""
