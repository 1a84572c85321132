"""`all-detect explain`."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from napari_all_detect.batch.planning import plan_units
from napari_all_detect.bundle import load_bundle
from napari_all_detect.cli.options import params_of
from napari_all_detect.errors import InputError, ParameterError, StoreError
from napari_all_detect.params import ExplainParams, ReadParams, ScoreParams, SegmentationParams
from napari_all_detect.research_use import RESEARCH_USE
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources import Plane, find_images

__all__ = ["explain"]

SHOWN = 8
"""Names of images or planes that an error lists."""


def explain(arguments: argparse.Namespace) -> int:
    """Draw where the networks look in one cell."""
    from napari_all_detect.explain import grad_cam
    from napari_all_detect.export.heatmaps import write_heatmaps
    from napari_all_detect.pipeline import PlaneInput, open_scorer, score_plane
    from napari_all_detect.sources.labels import find_labels, read_labels

    nested = {"segmentation": params_of(SegmentationParams, arguments), "reading": params_of(ReadParams, arguments)}
    # A heat map of the ensemble is one of all members.
    params = params_of(ScoreParams, arguments, **nested, fast_calls=False)
    which = params_of(ExplainParams, arguments)
    if arguments.out.suffix.lower() != ".png":
        raise ParameterError(f"--out is {arguments.out}; expected the name of a PNG: {arguments.out.stem}.png")
    plane = _one_plane(arguments.image, which.plane, params)
    _check_out(arguments.out, plane.path)
    labels = None
    if which.labels:
        given = find_labels(Path(which.labels), plane.image, plane.plane)
        _check_out(arguments.out, given)
        labels = with_retries(partial(read_labels, given), StoreError)
    scorer = open_scorer(params)
    pixels = with_retries(plane.open, StoreError)
    scored = score_plane(scorer, PlaneInput(pixels, plane.image, plane.plane, labels, plane.pixel_size_um))
    rows = scored.table[scored.table["label"] == which.label]
    if rows.empty:
        there = scored.table["label"]
        raise InputError(
            f"{arguments.image}: no cell {which.label}; "
            + (f"{len(there)} cells are there, numbered from {there.min()} to {there.max()}" if len(there) else "none")
        )
    cell, crops = rows.iloc[0], scored.crops[rows.index]
    maps = grad_cam(scorer.bundle, crops, scorer.weights, device=params.device)
    titles = [f"{name} {cell[f'p_all_{name}']:.2f}" for name in scorer.members]
    summary = f"cell {which.label}: {cell['call']}, P(ALL) {cell['p_all']:.2f}"
    heat = np.concatenate([maps.members[0], maps.ensemble])
    write_heatmaps(arguments.out, crops[0], summary, heat, [*titles, f"ensemble {cell['p_all']:.2f}"])
    flags = f" ({', '.join(cell['flags'].split(';'))})" if cell["flags"] else ""
    print(f"{summary}{flags}; {arguments.out}")
    print(RESEARCH_USE)
    return 0


def _one_plane(image: str, name: str | None, params: ScoreParams) -> Plane:
    """Return the plane of that name, or the only one, of an image that is read as `score` reads it."""
    wanted_um = load_bundle(params.bundle).manifest.crop.pixel_size_um
    units, failures = plan_units(find_images([image]), params.reading, wanted_um)
    if failures:
        raise InputError(failures[0].reason)
    planes = [unit.plane for unit in units]
    images = list(dict.fromkeys(plane.image for plane in planes))
    if len(images) != 1:
        raise ParameterError(f"{image}: {len(images)} images; expected one of them: {_shown(images)}")
    chosen = [plane for plane in planes if name is None or plane.plane == name]
    if len(chosen) != 1:
        given = "--plane is not given" if name is None else f"--plane is {name}"
        raise ParameterError(f"{image}: {given}; expected one of its planes: {_shown([p.plane for p in planes])}")
    return chosen[0]


def _check_out(out: Path, read: Path) -> None:
    """Raise ParameterError if what is read would be written over."""
    if out.exists() and Path(str(read)).exists() and out.samefile(str(read)):
        raise ParameterError(f"--out is {out}, which is read here; name another file")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
