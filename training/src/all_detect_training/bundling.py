"""A run folder -> a bundle folder: the members, their facts, and how well they do on images never trained on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from all_detect_training.card import model_card
from all_detect_training.cnmc import FOLDS
from all_detect_training.held_out import held_out_figures
from all_detect_training.history import trained_facts
from all_detect_training.metrics import member_figures
from all_detect_training.naming import check_name
from all_detect_training.out_folder import (
    check_out,
    move_bundle,
    refuse_filled,
    removed_if_empty,
    scratch_in,
    write_facts,
)
from all_detect_training.presets import FitParams, MemberSpec
from all_detect_training.resampling import DIGITS
from all_detect_training.rounding import bf16_facts
from all_detect_training.run_cells import training_diameter_px
from all_detect_training.runs import Run, load_run
from all_detect_training.training_set import CONTIGUOUS, GIVEN
from all_detect_training.trusting import TrustTargets, fit_trust, member_temperatures, trust_figures
from napari_all_detect.bundle.manifest import Manifest, Validation, validated
from napari_all_detect.bundle.verified import MANIFEST, MODEL_CARD
from napari_all_detect.digest import file_digest
from napari_all_detect.errors import OutputError
from napari_all_detect.networks import ARCHITECTURES
from napari_all_detect.trust import calibrate

__all__ = ["About", "export_bundle", "export_run"]

METHOD = (
    "Mondal C. et al., Ensemble of convolutional neural networks to diagnose acute lymphoblastic leukemia from "
    "microscopic images, Informatics in Medicine Unlocked 27 (2021) 100794"
)

_SPLITS = {
    CONTIGUOUS: "contiguous blocks of image numbers in each class folder",
    "paper": "by subject, in the numbers of Mondal et al. (2021); the preliminary set tests",
    GIVEN: "as given",
    **{fold: f"{fold} validates, the other folds train, the preliminary set tests" for fold in FOLDS},
}


@dataclass(frozen=True)
class About:
    """What a bundle says of itself that no run can know.

    Attributes
    ----------
    name, version : str
        Of the bundle; the name in lower case.
    description : str
        One sentence; composed from the members if empty.
    license, citation : str
        Of the bundle's weights.
    dataset_name, dataset_citation : str
        Of the images it was trained on.
    data_notes : str
        Markdown that stands in the model card as it is, under "Training data".
    """

    name: str
    version: str
    description: str = ""
    license: str = "Research use only; the terms of the training data apply"
    citation: str = METHOD
    dataset_name: str = ""
    dataset_citation: str = ""
    data_notes: str = ""


def export_bundle(
    run: Path, out: Path, about: About, targets: TrustTargets | None = None, bf16: bool = False
) -> Manifest:
    """Write a bundle folder: `bundle.json`, `members/<architecture>.weights.h5` and `MODEL_CARD.md`.

    The same run gives the same bytes: the date is the run's.

    Parameters
    ----------
    run : Path
        A folder that `fit` completed.
    out : Path
        A new or an empty folder.
    about : About
    targets : TrustTargets, optional
        At which rates of error cells are called uncertain, and so on.
    bf16 : bool
        Find out which members may compute in bf16, which takes OpenVINO and a processor that can.

    Returns
    -------
    manifest : Manifest
        What `bundle.json` holds.

    Raises
    ------
    InputError
        If the run is not complete, or too small to judge bf16 by.
    OutputError
        If `out` holds something already or can't be written.
    BundleError
        If the name is none that a bundle can have.
    MissingDependencyError, ParameterError
        If bf16 is asked for and can't be measured here.
    """
    check_name(about.name, about.version)
    check_out(out)
    return export_run(load_run(run), out, about, targets, bf16)


def export_run(run: Run, out: Path, about: About, targets: TrustTargets | None = None, bf16: bool = False) -> Manifest:
    """Write the bundle of a run that is loaded; as `export_bundle` otherwise."""
    manifest = _manifest(run, about, targets or TrustTargets())
    try:
        with _filled_or_as_it_was(out), scratch_in(out) as draft:
            (draft / "members").mkdir()
            for member in manifest.members:
                shutil.copyfile(run.folder / member.weights_file, draft / member.weights_file)
            _write(draft, manifest, about)
            if bf16:
                manifest = _with_bf16(manifest, *bf16_facts(draft, run))
                _write(draft, manifest, about)
            move_bundle(draft, out)
    except OSError as error:
        raise OutputError(
            f"{out}: the bundle can't be written ({error.strerror or error}); name another folder"
        ) from error
    return manifest


@contextmanager
def _filled_or_as_it_was(out: Path) -> Iterator[None]:
    """Make a folder if need be; on an error leave nothing of a bundle, which would block the next try."""
    refuse_filled(out)
    with removed_if_empty(out):
        out.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            shutil.rmtree(out / "members", ignore_errors=True)
            for name in (MODEL_CARD, MANIFEST):
                (out / name).unlink(missing_ok=True)
            raise


def _write(out: Path, manifest: Manifest, about: About) -> None:
    write_facts(out, manifest, model_card(manifest, about.data_notes))


def _with_bf16(manifest: Manifest, facts: dict[str, Any] | None, on_test: dict[str, Any] | None) -> Manifest:
    content = manifest.model_dump(mode="json")
    content["bf16"] = facts
    content["metrics"]["trust"]["bf16"] = on_test
    return validated(Manifest, json.dumps(content).encode(), manifest.name)


def _manifest(raw: Run, about: About, targets: TrustTargets) -> Manifest:
    """Compose what `bundle.json` holds."""
    temperatures = member_temperatures(raw)
    run = replace(raw, p_all=np.stack([calibrate(p, t) for p, t in zip(raw.p_all.T, temperatures, strict=True)], 1))
    validation = _validation(run)
    trusted = fit_trust(run, list(validation.values()), targets)
    threshold = trusted.ensemble.threshold
    metrics = held_out_figures(run, validation, trusted.ensemble.temperatures, threshold)
    content = {
        "schema_version": 1,
        "name": about.name,
        "version": about.version,
        "description": about.description or _description(run.params),
        "license": about.license,
        "citation": about.citation,
        "created": run.record["created"],
        "research_use_only": True,
        "classes": ("Hem", "ALL"),
        "crop": {
            "size": run.params.crop_size,
            "cell_diameter_px": training_diameter_px(run.cells, run.split),
            "stain_normalisation": run.params.stain_normalisation,
        },
        "members": [
            _member(run, spec, temperature, validation[spec.architecture])
            for spec, temperature in zip(run.params.members, temperatures, strict=True)
        ],
        "ensemble": trusted.ensemble.model_dump(),
        "domain": None if trusted.domain is None else trusted.domain.model_dump(),
        "training": _training(run, about),
        "metrics": metrics
        | {"trust": {"targets": asdict(targets)} | trust_figures(raw, run, list(validation.values()), trusted)},
    }
    return validated(Manifest, json.dumps(content).encode(), str(run.folder))


def _description(params: FitParams) -> str:
    cut = " cut early" if any(m.cut for m in params.members) else ""
    names = ", ".join(m.architecture for m in params.members)
    return f"Weighted ensemble (Mondal et al. 2021) of CNNs{cut}: {names}. Research use only."


def _validation(run: Run) -> dict[str, Validation]:
    """Return each member's figures on the validation cells."""
    side = run.split == "validation"
    figures = (member_figures(run.cells.is_all[side], p[side]) for p in run.p_all.T)
    return {
        spec.architecture: Validation(**{k: round(v, DIGITS) for k, v in f.items()}, n=int(side.sum()))
        for spec, f in zip(run.params.members, figures, strict=True)
    }


def _member(run: Run, spec: MemberSpec, temperature: float, validation: Validation) -> dict[str, Any]:
    weights_file = f"members/{spec.architecture}.weights.h5"
    return {
        "name": spec.architecture,
        "architecture": spec.architecture,
        "cut": spec.cut,
        "input_size": spec.input_size,
        "preprocessing": ARCHITECTURES[spec.architecture].preprocessing,
        "weights_file": weights_file,
        "sha256": file_digest(run.folder / weights_file),
        "temperature": temperature,
        "validation": validation.model_dump(),
    }


def _training(run: Run, about: About) -> dict[str, Any]:
    """Say from what and how the members were trained."""
    record, data = run.record, run.record["data"]
    method, whole = data.get("split", CONTIGUOUS), "images" if data.get("subjects") == "unknown" else "whole subjects"
    return {
        "dataset": {"name": about.dataset_name, "citation": about.dataset_citation, **data},
        "split": {
            "method": _SPLITS.get(method, f"fold {method} of {whole}"),
            "subjects": data.get("subjects", "unknown"),
            "counts": record["counts"],
        },
        "seed": run.params.seed,
        "preset": record["preset"],
        "params": record["params"],
        "trunks": record["trunks"],
        "trained": trained_facts(run.folder, run.params.members),
        "versions": record["versions"],
    }
