"""A bundle as a bioimage.io package: one network from cells to the ensemble's probabilities, for tools of other people.

What a network can't hold stays behind: finding and cropping the cells, calls, domain and flags. The package says so.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from all_detect_training.out_folder import SCRATCH
from napari_all_detect.atomic import written_atomically
from napari_all_detect.bundle import Bundle
from napari_all_detect.crops import center_crop
from napari_all_detect.engines import open_engine
from napari_all_detect.engines.keras import load_member
from napari_all_detect.engines.keras_program import computing_in
from napari_all_detect.ensemble import combine
from napari_all_detect.errors import BundleError, MissingDependencyError, OutputError
from napari_all_detect.networks import preprocess
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import Scorer
from napari_all_detect.research_use import RESEARCH_USE
from napari_all_detect.samples import draw_smear
from napari_all_detect.trust import calibrate
from napari_all_detect.trust.calls import LEAST_PROBABILITY

__all__ = ["write_bioimageio_package"]

METHOD_DOI = "10.1016/j.imu.2021.100794"
METHOD = "Mondal et al. (2021), Informatics in Medicine Unlocked 27, 100794"
TEST_CELLS = 4

SCOPE = """\
# {label} as one network

{description}

**{use}**

Input: white cells of a stained smear, one at a time, centred on black, {size} x {size} px, red, green and blue from 0
to 255; the median training cell measures {diameter:g} px. Output: the calibrated probabilities of Hem and ALL by the
ensemble of {members} (weighted by {weighting}). A cell counts as ALL from {threshold:g} on.

Finding and cropping the cells, `uncertain` calls, the distance from the training domain and the flags are no part of
the network: use napari-all-detect for them.

## Validation

The package holds {n} drawn cells and what the bundle itself says of them. How well the ensemble does on images that it
was not trained on stands in the model card below.
"""


@dataclass(frozen=True)
class _Case:
    """Cells to try the network on, and what it must say."""

    crops: NDArray[np.uint8]
    probabilities: NDArray[np.float32]


def write_bioimageio_package(bundle: Bundle, out: Path) -> Path:
    """Write a package of format version 0.5, validated and run by bioimage.io's own tools.

    Parameters
    ----------
    bundle : Bundle
    out : Path
        A new file that ends in `.zip`.

    Returns
    -------
    out : Path

    Raises
    ------
    BundleError
        If the bundle normalises the stain, which no bioimage.io preprocessing does, or its members can't be built.
    MissingDependencyError
        If bioimageio.core is not installed.
    OutputError
        If `out` exists, is no zip, can't be written, or the package fails its validation.
    """
    if bundle.manifest.crop.stain_normalisation is not None:
        raise BundleError(
            f"bundle {bundle.label} normalises the stain ({bundle.manifest.crop.stain_normalisation}), which a "
            "bioimage.io package can't say; export one that was trained without"
        )
    if out.suffix != ".zip" or out.exists():
        raise OutputError(
            f"{out}: {'exists already' if out.exists() else 'no .zip'}; name a new file that ends in .zip"
        )
    with _quiet_core() as (core, spec):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            # Beside the package, as the disk of TMPDIR may have no room for whole networks.
            with TemporaryDirectory(prefix=SCRATCH, dir=out.parent) as folder:
                package = _tested_package(bundle, Path(folder), out, core, spec)
                with package.open("rb") as whole, written_atomically(out) as file:
                    shutil.copyfileobj(whole, file)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise OutputError(f"{out}: can't be written ({reason}); make room there, or name another file") from error
    return out


def _tested_package(bundle: Bundle, folder: Path, out: Path, core: Any, spec: Any) -> Path:
    """Write the package into a folder, and let bioimage.io's tools run it."""
    _write_parts(bundle, folder)
    try:
        description = _description(bundle, folder)
    except ValidationError as error:
        raise BundleError(f"bundle {bundle.label} can't be described to bioimage.io: {_first(error)}") from error
    package = Path(spec.save_bioimageio_package(description, output_path=folder / "package.zip"))
    summary = core.test_model(package)
    if summary.status == "failed":
        raise OutputError(f"{out}: the package fails bioimage.io's validation: {_faults(summary)}")
    return package


@contextmanager
def _quiet_core() -> Iterator[tuple[Any, Any]]:
    """Import bioimage.io's tools, which say much: their log and Keras's bars of progress are kept away.

    So are TensorFlow's warnings that networks run on several numbers of cells.
    """
    try:
        import bioimageio.core as core
        import bioimageio.spec as spec
        from loguru import logger
    except ImportError as error:
        raise MissingDependencyError(
            f"a bioimage.io package needs {error.name}; pip install 'all-detect-training[bioimageio]'"
        ) from error
    logger.disable("bioimageio")
    tensorflow = logging.getLogger("tensorflow")
    level = tensorflow.level
    tensorflow.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield core, spec
    finally:
        logger.enable("bioimageio")
        tensorflow.setLevel(level)


def _write_parts(bundle: Bundle, folder: Path) -> None:
    """Write the network, the test tensors, the documentation, the license and a cover."""
    # As the package's own network does.
    manifest, params = bundle.manifest, ScoreParams(engine="keras", device="cpu", precision="fp32")
    scorer = Scorer(params, bundle, open_engine(bundle, params))
    case = _case(scorer)
    _network(scorer).save(folder / "ensemble.keras")
    np.save(folder / "cells.npy", case.crops.astype(np.float32))
    np.save(folder / "probabilities.npy", case.probabilities)
    scope = SCOPE.format(
        use=RESEARCH_USE,
        label=bundle.label,
        description=manifest.description,
        size=manifest.crop.size,
        diameter=manifest.crop.cell_diameter_px,
        members=", ".join(m.name for m in manifest.members),
        weighting=manifest.ensemble.weighting,
        threshold=manifest.ensemble.threshold,
        n=len(case.crops),
    )
    (folder / "README.md").write_text(scope + f"\n{bundle.card}".replace("\n#", "\n##"), encoding="utf-8")
    (folder / "LICENSE.txt").write_text(manifest.license + "\n", encoding="utf-8")
    cover = np.concatenate([case.crops[0], case.crops[-1]], axis=1)
    Image.fromarray(cover).resize((400, 200), Image.Resampling.LANCZOS).save(folder / "cover.png")


def _case(scorer: Scorer) -> _Case:
    """Draw cells at the bundle's scale, and score them as the bundle does."""
    crop = scorer.bundle.manifest.crop
    diameter_px = max(crop.cell_diameter_px, 8.0)
    side = round(12 * diameter_px)
    smear = draw_smear((side, side), n_cells=TEST_CELLS, cell_diameter_px=diameter_px, seed=0, touching=0, border=0)
    crops = center_crop(smear.rgb, smear.labels, crop.size)
    combined = combine(scorer.engine.predict(crops), scorer.weights)
    p_hem, p_all = (calibrate(p, scorer.temperature) for p in combined.T)
    return _Case(crops, np.stack([p_hem, p_all], axis=1))


@computing_in("fp32")
def _network(scorer: Scorer) -> Any:
    """Join members, their vote (Eq. 2) and its calibration: crops of 0 to 255 in, probabilities of (Hem, ALL) out."""
    import keras

    bundle, size = scorer.bundle, scorer.bundle.manifest.crop.size
    crops = keras.Input((size, size, 3), dtype="float32", name="cells")
    votes = [
        float(weight) * keras.ops.softmax(_logits(bundle, member, crops) / member.temperature)
        for member, weight in zip(bundle.manifest.members, scorer.weights / scorer.weights.sum(), strict=True)
    ]
    combined = keras.ops.clip(sum(votes[1:], votes[0]), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    odds = (keras.ops.log(combined) - keras.ops.log(1 - combined)) / scorer.temperature
    return keras.Model(crops, keras.ops.sigmoid(odds), name="ensemble")


def _logits(bundle: Bundle, member: Any, crops: Any) -> Any:
    return load_member(bundle, member)(preprocess(crops, member.input_size, member.preprocessing))


def _description(bundle: Bundle, folder: Path) -> Any:
    """Compose the model's description."""
    import keras
    from bioimageio.spec.model import v0_5

    manifest, size = bundle.manifest, bundle.manifest.crop.size
    return v0_5.ModelDescr(
        name=f"Leukemic or normal white cell ({manifest.name.replace('.', '-')})",
        version=manifest.version,
        description=manifest.description[:1024],
        authors=[v0_5.Author(name="The napari-all-detect developers")],
        cite=[v0_5.CiteEntry(text=METHOD, doi=v0_5.Doi(METHOD_DOI))],
        license=v0_5.FileDescr(source=folder / "LICENSE.txt"),
        tags=["leukemia", "hematology", "white blood cells", "classification", "ensemble", "2d", "napari"],
        documentation=v0_5.FileDescr(source=folder / "README.md"),
        covers=[v0_5.FileDescr(source=folder / "cover.png")],
        inputs=[
            v0_5.InputTensorDescr(
                id=v0_5.TensorId("cells"),
                description="White cells, each centred on black",
                axes=[
                    v0_5.BatchAxis(),
                    v0_5.SpaceInputAxis(id=v0_5.AxisId("y"), size=size),
                    v0_5.SpaceInputAxis(id=v0_5.AxisId("x"), size=size),
                    v0_5.ChannelAxis(channel_names=[v0_5.Identifier(c) for c in ("red", "green", "blue")]),
                ],
                data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 255.0)),
                test_tensor=v0_5.FileDescr(source=folder / "cells.npy"),
            )
        ],
        outputs=[
            v0_5.OutputTensorDescr(
                id=v0_5.TensorId("probabilities"),
                description="Calibrated probabilities, as if both classes were equally frequent",
                axes=[
                    v0_5.BatchAxis(),
                    v0_5.ChannelAxis(channel_names=[v0_5.Identifier(c) for c in manifest.classes]),
                ],
                data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
                test_tensor=v0_5.FileDescr(source=folder / "probabilities.npy"),
            )
        ],
        weights=v0_5.WeightsDescr(
            keras_v3=v0_5.KerasV3WeightsDescr(
                source=folder / "ensemble.keras",
                keras_version=v0_5.Version(keras.__version__),
                backend=(keras.backend.backend(), v0_5.Version(_backend_version())),
            )
        ),
    )


def _backend_version() -> str:
    """Return the version of what runs Keras here."""
    import importlib

    import keras

    return str(importlib.import_module(keras.backend.backend()).__version__)


def _first(error: ValidationError) -> str:
    """Return the first fault, in one line."""
    fault = error.errors(include_url=False)[0]
    return " ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".split())


def _faults(summary: Any) -> str:
    """Return what the validation found, in one line."""
    found = [f"{'.'.join(map(str, e.loc))}: {e.msg}" for detail in summary.details for e in detail.errors]
    return " ".join("; ".join(found).split())[:500]
