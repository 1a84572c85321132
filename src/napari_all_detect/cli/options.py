"""Options of the command line, built from `params.py`, and back."""

import argparse
from collections.abc import Collection
from dataclasses import fields
from typing import Any, TypeVar

from napari_all_detect.params import Params

__all__ = ["add_inputs", "add_params", "params_of"]

P = TypeVar("P", bound=Params)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """Add what is read, and the folder for what is written."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="PNG, JPEG, BMP, TIFF, a folder of them, a pattern, a zarr array, an OME-Zarr image or plate, or a URL",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="Folder for the results")


def add_params(parser: argparse.ArgumentParser, params: type[Params], without: Collection[str] = ()) -> None:
    """Add an option for each field of a dataclass of parameters, with its default, choices and help."""
    for f in fields(params):
        if "tooltip" not in f.metadata or f.name in without:
            continue
        options: dict[str, Any] = {"dest": f.name, "default": f.default, "help": _help(f.metadata, f.default)}
        if isinstance(f.default, bool):
            options["action"] = "store_true"
        else:
            options |= {
                "type": _reader(f.type),
                "metavar": f.metadata.get("metavar"),
                "choices": f.metadata.get("choices"),
            }
        parser.add_argument(f"--{f.metadata.get('flag', f.name.replace('_', '-'))}", **options)


def _help(form: Any, default: Any) -> str:
    text = str(form["tooltip"]).replace("%", "%%")
    if default is None or isinstance(default, bool):
        return text
    shown = ",".join(default) if isinstance(default, tuple) else default
    return f"{text} (default: {shown})"


def _reader(annotation: Any) -> Any:
    """Return what turns an argument's text into a field's type."""
    readers = {
        int: int,
        str: str,
        str | None: str,
        int | None: int,
        float: float,
        float | None: float,
        str | float: _word_or_number,
        str | float | None: _word_or_number,
        str | int: _word_or_whole,
        tuple[str, ...]: lambda text: tuple(text.split(",")),
        tuple[int, ...] | None: _whole_numbers,
    }
    return readers[annotation]


def _word_or_number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _word_or_whole(text: str) -> str | int:
    return int(text) if text.lstrip("-").isdecimal() else text


def _whole_numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def params_of(kind: type[P], arguments: argparse.Namespace, **more: Any) -> P:
    """Build parameters from the arguments; `more` are fields without an option."""
    given = {f.name: getattr(arguments, f.name) for f in fields(kind) if "tooltip" in f.metadata and f.name not in more}
    return kind(**given, **more)
