"""The whole road, for a plane and for an image."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_all_detect.engines import Progress
from napari_all_detect.errors import InputError, StoreError
from napari_all_detect.params import ReadParams, ScoreParams
from napari_all_detect.pipeline.cutting import PlaneInput, cut_cells
from napari_all_detect.pipeline.scorer import Scorer, kept_scorer
from napari_all_detect.pipeline.scoring import ScoredImage, score_cells
from napari_all_detect.retrying import with_retries
from napari_all_detect.sources import Plane, as_rgb, find_images, is_path, open_planes

__all__ = ["score_image", "score_plane"]


def score_plane(scorer: Scorer, given: PlaneInput, progress: Progress | None = None) -> ScoredImage:
    """Find the cells of one plane, score them and tabulate.

    Parameters
    ----------
    scorer : Scorer
    given : PlaneInput
    progress : callable, optional
        Is told after each batch how many more cells are scored.

    Raises
    ------
    InputError
        If the labels given are not a label image of this plane.
    BundleError
        If a member gives no number.
    """
    return score_cells(scorer, cut_cells(given, scorer.params, scorer.bundle.manifest.crop), progress)


def score_image(
    image: ArrayLike | str | Path,
    labels: ArrayLike | None = None,
    bundle: str | Path = "lite",
    **options: Any,
) -> ScoredImage:
    """Score every white cell of an image.

    Parameters
    ----------
    image : path, or (H, W, 3) uint8 or like
        A stained smear. Of a path, which may be a URL, the rows are those of `score_batch`: its pixel size is known,
        too, and a large image is read by parts. Grey and RGBA arrays, 16-bit and float values are converted as for
        files.
    labels : (H, W) integer, optional
        Cells found elsewhere; used as they are.
    bundle : str or Path
        Name or path of a model bundle.
    **options
        Other fields of `ScoreParams`, for instance `weighting="equal"` or `pixel_size_um=0.25`.

    Returns
    -------
    scored : ScoredImage

    Raises
    ------
    InputError
        If the image or the labels can't be used, or several planes lie at the path.
    BundleError
        If the bundle is unknown or damaged.
    ParameterError
        If an option lies outside its range, or options don't go together.
    MissingDependencyError
        If a GPU or OpenVINO is asked for and can't be used.

    Examples
    --------
    >>> from napari_all_detect.samples import draw_smear
    >>> scored = score_image(draw_smear((224, 224), n_cells=4, seed=3).rgb)
    >>> scored.crops.shape[1:], scored.member_probabilities.shape[1:]
    ((56, 56, 3), (5, 2))
    >>> bool(scored.table["p_all"].between(0, 1).all())
    True
    """
    params = ScoreParams(bundle=bundle, **options)  # type: ignore[arg-type]  # of a path it makes a text
    cells = None if labels is None else _as_labels(labels)
    if not is_path(image):
        given = PlaneInput(as_rgb(image), labels=cells)  # type: ignore[arg-type]  # it is no path
        return score_plane(kept_scorer(params), given)
    scorer = kept_scorer(params)
    plane = _only_plane(image, params.reading, scorer.bundle.manifest.crop.pixel_size_um)
    pixels = with_retries(plane.open, StoreError)
    given = PlaneInput(pixels, plane.image, plane.plane, cells, plane.pixel_size_um, plane.well, plane.field)
    return score_plane(scorer, given)


def _only_plane(path: str | Path, reading: ReadParams, wanted_um: float | None) -> Plane:
    """Return the plane that lies at a path; raise InputError unless it is one."""
    files = find_images(path)
    if len(files) > 1:
        raise InputError(f"{path}: {len(files)} images; expected one: score_batch scores several")
    planes = with_retries(partial(open_planes, files[0], reading, wanted_um), StoreError)
    if len(planes) > 1:
        raise InputError(f"{path}: {len(planes)} planes; expected one: score_batch scores several")
    return planes[0]


def _as_labels(labels: ArrayLike) -> NDArray[Any]:
    if isinstance(labels, str | Path):
        raise InputError(f"labels: got the path {labels}; expected its pixels: read it first, with skimage.io.imread")
    try:
        return np.asarray(labels)
    except ValueError as error:
        raise InputError(f"labels are no array ({error}); expected whole numbers of shape (H, W)") from error
