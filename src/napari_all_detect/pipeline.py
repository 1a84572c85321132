"""One road from a plane to its table, for command line, batch, plugin and Python API: `score_plane`.

It has two halves, as the first needs no networks of the ensemble and the second no pixels: `cut_cells` and
`score_cells`. A batch does the first half of one plane while the second of another is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from napari_all_detect import table, trust
from napari_all_detect.bundle import Bundle, Crop, load_bundle
from napari_all_detect.cascade import p_all_bounds
from napari_all_detect.costs import member_gflop
from napari_all_detect.crops import crop_scale
from napari_all_detect.engines import Choice, Engine, Progress, choose, open_engine
from napari_all_detect.ensemble import combine, member_weights
from napari_all_detect.errors import BundleError, InputError
from napari_all_detect.fast_calls import FastCalls
from napari_all_detect.labelled import LabelImage, check_range
from napari_all_detect.params import ScoreParams
from napari_all_detect.segmentation import find_in_view, segment_cells
from napari_all_detect.sources import RgbPlane, TiledPlane, as_rgb
from napari_all_detect.stain import normalise_stain
from napari_all_detect.tiling import TiledCells, WholeCells, find_tiled, given_tiled, read_crops

__all__ = [
    "CutCells",
    "PlaneInput",
    "ScoredImage",
    "Scorer",
    "cut_cells",
    "find_cells",
    "make_scorer",
    "open_scorer",
    "score_cells",
    "score_image",
    "score_plane",
    "uncertain_bounds",
]


CELLS_AT_ONCE = 8192
"""Of a plane, what is scored before the next are read: their crops and what is computed from them stay in memory."""


@dataclass(frozen=True)
class PlaneInput:
    """A plane's pixels, and what is known of them.

    Attributes
    ----------
    pixels : RgbPlane or TiledPlane
        A plane that is read by parts is segmented and cut in tiles, with the same results.
    image, plane : str
        The names in the tables.
    labels : (H, W) integer, or what reads it, optional
        Cells that somebody else found; None finds them here.
    pixel_size_um : float, optional
        As the file says.
    well, field : str
        Where the image lies on a plate; empty if it lies on none.
    nuclei : (H, W) array, optional
        Not 0 where the nuclei of `labels` are; None if nobody looked for them.
    """

    pixels: RgbPlane | TiledPlane
    image: str = "image"
    plane: str = "0"
    labels: LabelImage | None = None
    pixel_size_um: float | None = None
    well: str = ""
    field: str = ""
    nuclei: NDArray[np.integer | np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class CutCells:
    """The cells of a plane, found and cut out, not scored yet.

    Attributes
    ----------
    labels, nuclei
        As in `ScoredImage`.
    crops : (N, s, s, 3) uint8
    geometry : dict of arrays
        By `table.geometry`.
    scale : float
        By which the plane was rescaled before the crops were cut.
    names : dict of str
        Image, plane, well and field, as in the tables.
    pixel_size_um : float or None
    notes : str
        What was done to the pixels when they were read.
    """

    labels: LabelImage
    nuclei: LabelImage | None
    crops: NDArray[np.uint8]
    geometry: dict[str, Any]
    scale: float
    names: dict[str, str]
    pixel_size_um: float | None
    notes: str


@dataclass(frozen=True)
class ScoredImage:
    """What scoring a plane gives.

    Attributes
    ----------
    labels : (H, W) int32
        0 for background; a cell's number is its `label` in the table.
    nuclei : (H, W) int32 or None
        The same numbers where the nuclei are; None if labels were given without, or the method finds no nuclei.
    table : DataFrame
        A row per cell: the columns of `cells.csv`.
    crops : (N, s, s, 3) uint8
        The cells, in the order of the table: what the networks saw, unless the bundle normalises the stain first.
    member_probabilities : (N, M, 2) float32
        Each member's probabilities of (Hem, ALL); NaN where fast calls did without it.
    summary : DataFrame
        The plane's row of `images.csv`.
    """

    labels: LabelImage
    nuclei: LabelImage | None
    table: pd.DataFrame
    crops: NDArray[np.uint8]
    member_probabilities: NDArray[np.float32]
    summary: pd.DataFrame


@dataclass(frozen=True)
class Scorer:
    """A loaded bundle with the engine that runs it, ready for any number of planes: see `make_scorer`."""

    params: ScoreParams
    bundle: Bundle
    engine: Engine
    choice: Choice | None = None
    """Why this engine and its precision, if `open_scorer` chose them."""

    @property
    def members(self) -> list[str]:
        """Names of the members, in the bundle's order."""
        return [member.name for member in self.bundle.manifest.members]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(M,) weights W_k of Eq. 2."""
        return _weights(self.bundle, self.params)

    @property
    def weighting(self) -> str:
        """What weighs the members' votes."""
        return self.params.weighting or self.bundle.manifest.ensemble.weighting

    @property
    def threshold(self) -> float:
        """Probability from which a cell is called ALL."""
        own = self.bundle.manifest.ensemble.threshold
        return own if self.params.threshold is None else self.params.threshold

    @property
    def temperature(self) -> float:
        """By which the log-odds of the combined vote are divided."""
        return self.bundle.manifest.ensemble.temperatures.get(self.weighting, 1.0)

    @cached_property
    def bounds(self) -> trust.Bounds | None:
        """Between which probabilities a call is uncertain; None if every cell is called."""
        return uncertain_bounds(self.bundle, self.params)


def open_scorer(params: ScoreParams) -> Scorer:
    """Load the bundle and build its networks, which takes seconds.

    Raises
    ------
    BundleError
        If the bundle is unknown or damaged, no member weighs anything, or an error rate is asked for of a bundle that
        was not calibrated.
    MissingDependencyError
        If a GPU or OpenVINO is asked for and can't be used.
    """
    bundle = load_bundle(params.bundle)
    _weights(bundle, params)
    uncertain_bounds(bundle, params)
    choice = choose(bundle, params)
    # Settled here, once: for every process that takes part, and for the record.
    params = replace(params, engine=choice.engine, precision=choice.precision)
    return replace(make_scorer(params, bundle, open_engine(bundle, params)), choice=choice)


def make_scorer(params: ScoreParams, bundle: Bundle, engine: Engine) -> Scorer:
    """Make a scorer of what is loaded; with `fast_calls` its engine runs only the members that a call needs."""
    scorer = Scorer(params, bundle, engine)
    if not params.fast_calls:
        return scorer

    def settled(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.bool_]:
        ends = trust.calibrate_bounds(low, high, scorer.temperature)
        return trust.settled(*ends, scorer.threshold, scorer.bounds)

    costs = [member_gflop(m.architecture, m.cut, m.input_size) for m in bundle.manifest.members]
    return replace(scorer, engine=FastCalls(engine, scorer.weights, costs, settled))


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
        If the labels given are not a label image of this plane, or rescaling would not fit into memory.
    """
    return score_cells(scorer, cut_cells(given, scorer.params, scorer.bundle.manifest.crop), progress)


def cut_cells(given: PlaneInput, params: ScoreParams, crop: Crop) -> CutCells:
    """Find the cells of one plane and cut them out, at the scale that a bundle's `crop` asks for.

    Raises
    ------
    InputError
        As by `score_plane`.
    """
    pixel_size_um = given.pixel_size_um if params.pixel_size_um is None else params.pixel_size_um
    cells = _cells(given, params, pixel_size_um)
    geometry = cells.measure(pixel_size_um)
    scale = crop_scale(
        params.rescale,
        pixel_size_um=pixel_size_um,
        diameters_px=geometry["diameter_px"],
        bundle_pixel_size_um=crop.pixel_size_um,
        bundle_diameter_px=crop.cell_diameter_px,
    )
    names = {"image": given.image, "plane": given.plane, "well": given.well, "field": given.field}
    notes = ";".join((*given.pixels.notes, *cells.notes))
    return CutCells(
        cells.labels, cells.nuclei, cells.cut(crop.size, scale), geometry, scale, names, pixel_size_um, notes
    )


def score_cells(scorer: Scorer, cut: CutCells, progress: Progress | None = None) -> ScoredImage:
    """Score the cells that `cut_cells` found, and tabulate."""
    parts = [_score_some(scorer, cut, rows, progress) for rows in _some_at_once(len(cut.crops))]
    probabilities = np.concatenate([found for found, _ in parts])
    columns = {name: np.concatenate([columns[name] for _, columns in parts]) for name in parts[0][1]}
    columns = cut.geometry | columns | cut.names | {"bundle": scorer.bundle.label}
    cells = table.typed(table.cell_columns(scorer.members), columns, len(cut.crops))
    facts = {"pixel_size_um": cut.pixel_size_um, "rescale": cut.scale, "notes": cut.notes}
    summary = table.image_row(cells, cut.names | facts)
    return ScoredImage(cut.labels, cut.nuclei, cells, cut.crops, probabilities, summary)


def _some_at_once(n: int) -> list[slice]:
    return [slice(first, min(first + CELLS_AT_ONCE, n)) for first in range(0, max(n, 1), CELLS_AT_ONCE)]


def _score_some(
    scorer: Scorer, cut: CutCells, rows: slice, progress: Progress | None
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Return probabilities and columns of some of the cells."""
    crops = read_crops(cut.crops, rows)
    seen = normalise_stain(crops, scorer.bundle.manifest.crop.stain_normalisation)
    probabilities = scorer.engine.predict(seen, progress)
    geometry = {name: values[rows] for name, values in cut.geometry.items()}
    trusted = _trust(scorer, geometry, crops, cut.labels.shape, cut.scale)
    return probabilities, _scores(scorer, probabilities) | trusted


def _cells(given: PlaneInput, params: ScoreParams, pixel_size_um: float | None) -> WholeCells | TiledCells:
    """Return the plane's cells, found here unless given."""
    if not isinstance(given.pixels, TiledPlane):
        return WholeCells(given.pixels.rgb, *find_cells(given, params))
    if given.labels is not None:
        _check_labels(given.labels, given.pixels.shape)
        return given_tiled(given.pixels, given.labels, given.nuclei)
    find = partial(find_in_view, params.segmentation, pixel_size_um, params.device, params.engine)
    return find_tiled(given.pixels, find)


def find_cells(given: PlaneInput, params: ScoreParams) -> tuple[NDArray[np.int32], NDArray[np.int32] | None]:
    """Find the cells of one plane, as scoring does, or check those that are given.

    Parameters
    ----------
    given : PlaneInput
    params : ScoreParams

    Returns
    -------
    labels : (H, W) int32
    nuclei : (H, W) int32 or None
        The same numbers where the nuclei are, if they were looked for.

    Raises
    ------
    InputError
        If the labels given are not a label image of this plane.
    """
    rgb = given.pixels.rgb
    if given.labels is None:
        return segment_cells(
            rgb,
            params.segmentation,
            pixel_size_um=given.pixel_size_um if params.pixel_size_um is None else params.pixel_size_um,
            device=params.device,
            engine=params.engine,
            nuclei=True,
        )
    _check_labels(given.labels, given.pixels.shape)
    labels = _in_range(np.asarray(given.labels))
    # A cell may have been redrawn since: its nucleus is what of it still lies within.
    nuclei = None if given.nuclei is None else np.where(np.asarray(given.nuclei) > 0, labels, 0)
    return labels, nuclei


def score_image(
    image: ArrayLike,
    labels: NDArray[np.integer] | None = None,
    bundle: str = "lite",
    **options: Any,
) -> ScoredImage:
    """Score every white cell of an image.

    Parameters
    ----------
    image : (H, W, 3) uint8 or like
        A stained smear. Grey and RGBA images, 16-bit and float values are converted as for files.
    labels : (H, W) integer, optional
        Cells found elsewhere; used as they are.
    bundle : str
        Name or path of a model bundle.
    **options
        Other fields of `ScoreParams`, for instance `weighting="equal"` or `pixel_size_um=0.25`.

    Returns
    -------
    scored : ScoredImage

    Raises
    ------
    InputError
        If the image or the labels can't be used.
    BundleError
        If the bundle is unknown or damaged.
    ParameterError
        If an option lies outside its range.

    Examples
    --------
    >>> from napari_all_detect.samples import draw_smear
    >>> scored = score_image(draw_smear((224, 224), n_cells=4, seed=3).rgb)
    >>> scored.crops.shape[1:], scored.member_probabilities.shape[1:]
    ((56, 56, 3), (5, 2))
    >>> bool(scored.table["p_all"].between(0, 1).all())
    True
    """
    params = ScoreParams(bundle=str(bundle), **options)
    loaded, engine = _loaded(params.bundle, params.engine, params.precision, params.device, params.batch_size)
    _weights(loaded, params)
    return score_plane(make_scorer(params, loaded, engine), PlaneInput(as_rgb(image), labels=labels))


@lru_cache(maxsize=2)
def _loaded(bundle: str, engine: str, precision: str, device: str, batch_size: int | None) -> tuple[Bundle, Engine]:
    """Keep the networks: only these parameters need other ones."""
    params = ScoreParams(bundle=bundle, engine=engine, precision=precision, device=device, batch_size=batch_size)
    loaded = load_bundle(bundle)
    return loaded, open_engine(loaded, params)


def _weights(bundle: Bundle, params: ScoreParams) -> NDArray[np.float64]:
    """Return the members' weights, or refuse if not one is above 0."""
    weighting = params.weighting or bundle.manifest.ensemble.weighting
    weights = member_weights([member.validation for member in bundle.manifest.members], weighting)
    if not weights.any():
        raise BundleError(f"bundle {bundle.label}: no member's {weighting} is above 0; take another weighting: equal")
    return weights


def uncertain_bounds(bundle: Bundle, params: ScoreParams) -> trust.Bounds | None:
    """Return the bounds of the uncertain calls at the rates asked for, the bundle's own unless a threshold is given.

    Raises
    ------
    BundleError
        If a rate is asked for and the bundle was not calibrated.
    """
    ensemble, rate = bundle.manifest.ensemble, params.error_rate
    conformal = ensemble.conformal
    if rate == "none" or (rate is None and (conformal is None or params.threshold is not None)):
        return None
    bounds = None if conformal is None else conformal.bounds.get(params.weighting or ensemble.weighting)
    if conformal is None or bounds is None:
        raise BundleError(
            f"bundle {bundle.label} is not calibrated, so no error rate can be kept to; leave it out, or take another "
            "bundle or weighting"
        )
    of_all, of_hem = (conformal.error_rate_all, conformal.error_rate_hem) if rate is None else (rate, rate)
    return trust.Bounds(
        trust.looked_up(conformal.rates, bounds.least_all, float(of_all), 0.0),
        trust.looked_up(conformal.rates, bounds.most_hem, float(of_hem), 1.0),
    )


def _scores(scorer: Scorer, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    """Return the columns of the scores."""
    ran = ~np.isnan(probabilities[..., 1]) if scorer.params.fast_calls else np.ones(probabilities.shape[:2], bool)
    combined = combine(np.where(ran[..., None], probabilities, 0), scorer.weights)
    p_hem, p_all = (trust.calibrate(p, scorer.temperature) for p in combined.T)
    low, high = trust.calibrate_bounds(*p_all_bounds(probabilities, scorer.weights), scorer.temperature)
    known = ran[:, scorer.weights > 0].all(axis=1)
    members = {f"p_all_{name}": probabilities[:, k, 1] for k, name in enumerate(scorer.members)}
    return {
        "p_all": p_all,
        "p_hem": p_hem,
        "call": trust.calls(p_all, scorer.threshold, scorer.bounds),
        "spread": trust.spread(probabilities),
        "votes_all": trust.votes_all(probabilities, scorer.threshold),
        "members_run": ran.sum(axis=1),
        "least_p_all": np.where(known, p_all, low),
        "most_p_all": np.where(known, p_all, high),
        **members,
    }


def _trust(
    scorer: Scorer, geometry: dict[str, Any], crops: NDArray[np.uint8], shape: Sequence[int], scale: float
) -> dict[str, Any]:
    """Return the columns of the domain and of the flags."""
    manifest = scorer.bundle.manifest
    flags = trust.flag_cells(
        np.stack([geometry[f"bbox_{side}"] for side in ("y0", "x0", "y1", "x1")], axis=1),
        geometry["diameter_px"],
        geometry["solidity"],
        crops,
        (shape[0], shape[1]),
        scale=scale,
        bundle_diameter_px=manifest.crop.cell_diameter_px,
    )
    domain, columns = manifest.domain, dict[str, Any]()
    if domain is not None:
        features = trust.colour_features(crops)
        distance = trust.domain_distance(features, domain.mean, domain.covariance, domain.threshold)
        columns = {"domain_distance": distance, "in_domain": distance <= 1}
        flags |= {"out_of_domain": distance > 1, "blurred": trust.sharpness(crops) < domain.least_sharpness}
    return {**columns, "flags": trust.join_flags(flags, len(crops))}


def _check_labels(labels: LabelImage, shape: tuple[int, ...]) -> None:
    """Raise unless labels are of an image of this shape."""
    if labels.shape != shape:
        raise InputError(f"the labels' shape is {labels.shape}, the image's {shape}; expected the same")
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels are {labels.dtype}; expected whole numbers, 0 for background")


def _in_range(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    check_range(low, high)
    return labels.astype(np.int32)
