"""From run folders to the ablation's report."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from all_detect_training.ablation import Classifier, classifiers, table_4
from all_detect_training.bundling import About, export_run
from all_detect_training.by_subject import subject_auc, subject_table
from all_detect_training.cnmc import FOLDS
from all_detect_training.figures import ENSEMBLES, figure_text
from all_detect_training.history import trained_facts, training_in_words
from all_detect_training.metrics import THRESHOLD
from all_detect_training.out_folder import scratch_in
from all_detect_training.presets import departures
from all_detect_training.report import write_report
from all_detect_training.report_page import chosen_cells
from all_detect_training.reporting import Findings, Panel
from all_detect_training.runs import Run, load_run
from napari_all_detect.bundle import Bundle, load_bundle
from napari_all_detect.ensemble import member_weights
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.explain import grad_cam
from napari_all_detect.export.heatmaps import draw_heatmaps

__all__ = ["write_ablation"]

log = logging.getLogger(__name__)
BEST = ENSEMBLES["kappa"]
NOTHING_LEARNED = f"no member's validation kappa is above 0: nothing was learned, and {BEST} is not defined"
ON_PRELIMINARY = ("paper", *FOLDS)
"""Splits of C-NMC 2019 of which the preliminary set is the test set."""
OTHER_IMAGES = "These runs were not trained and tested on the same images and sides: their figures can't be compared."


def write_ablation(folders: Sequence[Path], out: Path) -> str:
    """Write the report of runs, and return its table in Markdown.

    Parameters
    ----------
    folders : sequence of Path
        Run folders, such as that of cropped and that of whole images; one of each input size. Of a run that learned
        nothing, what is not defined is left empty. That they are of other images is logged, and in the report.
    out : Path

    Raises
    ------
    InputError
        If a run is not complete, or two have the same input size.
    OutputError
        If the folder can't be written.
    """
    runs = [load_run(folder, crops=False) for folder in folders]
    _refuse_same_size(runs)
    doubt = OTHER_IMAGES if len({run.record["data"].get("images_sha256") for run in runs}) > 1 else ""
    if doubt:
        log.warning("%s: %s", ", ".join(map(str, folders)), doubt)
    by_run = [classifiers(run) for run in runs]
    learned = [(run, found) for run, found in zip(runs, by_run, strict=True) if _best(found).is_defined]
    with _scratch(out) as scratch:
        shown = [_shown(run, found, scratch / str(k), drawn=k == 0) for k, (run, found) in enumerate(learned)]
    of = [one for found in by_run for one in found]
    found = Findings(
        table=table_4(of),
        classifiers=of,
        facts={
            f"{run.params.crop_size} px": _facts(run) + ("" if _best(found).is_defined else f"; {NOTHING_LEARNED}")
            for run, found in zip(runs, by_run, strict=True)
        },
        on_preliminary_px={run.params.crop_size for run in runs if run.record["data"].get("split") in ON_PRELIMINARY},
        calibration={
            f"{run.params.crop_size} px": calibration for (run, _), (calibration, _) in zip(learned, shown, strict=True)
        },
        subjects={run.params.crop_size: _subjects(run, found) for run, found in learned if run.subject is not None},
        panels=[panel for _, panels in shown for panel in panels],
        doubt=doubt,
    )
    write_report(out, found)
    return (out / "table4.md").read_text(encoding="utf-8")


def _refuse_same_size(runs: Sequence[Run]) -> None:
    """Raise InputError if two runs have the same input size, by which the report tells runs apart."""
    seen: dict[int, Run] = {}
    for run in runs:
        other = seen.setdefault(run.params.crop_size, run)
        if other is not run:
            raise InputError(
                f"{other.folder} and {run.folder} have the same input size, {run.params.crop_size} px; a report holds "
                "one run of each size: write one for each"
            )


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """Lend a folder in that of the report, which is made if need be, for copies of the networks."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with scratch_in(out) as scratch:
            yield scratch
    except OSError as error:
        raise OutputError(f"{out}: can't be written ({error.strerror or error}); name another folder") from error


def _shown(run: Run, of: Sequence[Classifier], folder: Path, *, drawn: bool) -> tuple[dict[str, Any], list[Panel]]:
    """Return a run's calibration and, if asked, its panels; of all runs, only its crops are in memory meanwhile."""
    whole = load_run(run.folder)
    bundle = _bundle(whole, folder)
    return bundle.manifest.metrics["trust"]["calibration"], _panels(whole, of, bundle) if drawn else []


def _bundle(run: Run, folder: Path) -> Bundle:
    """Pack a run into the bundle that it gives."""
    export_run(run, folder, About("ablation", "0"))
    return load_bundle(folder)


def _facts(run: Run) -> str:
    test = run.split == "test"
    data, preset = run.record["data"], run.record["preset"]
    other = departures(preset, run.params)
    but = f" (but for {', '.join(other)})" if other else ""
    trained = trained_facts(run.folder, run.params.members)
    return (
        f"preset {preset}{but}, trained {run.record['created']} on {(run.split == 'train').sum()} cells; "
        f"{test.sum()} test cells of {len(np.unique(run.group[test]))} {run.drawn}, which are drawn for the intervals; "
        f"split: {data.get('split', 'contiguous blocks of images')}; seed {run.params.seed}; "
        + training_in_words(run.params, run.record["trunks"], trained)
    )


def _best(of: Sequence[Classifier]) -> Classifier:
    return next(one for one in of if one.name == BEST)


def _subjects(run: Run, of: Sequence[Classifier]) -> tuple[str, pd.DataFrame]:
    """Return the caption of the table of subjects, and the table."""
    one = _best(of)
    told = figure_text(subject_auc(one.group, one.is_all, one.p_all), "not defined")
    table = subject_table(one.group, run.cells.image[run.split == "test"], one.is_all, one.p_all, THRESHOLD)
    return f"{BEST} at {run.params.crop_size} px: AUC of the subjects' mean P(ALL) {told}", table


def _panels(run: Run, of: Sequence[Classifier], bundle: Bundle) -> list[Panel]:
    """Draw the Grad-CAM of some test cells."""
    best = _best(of)
    weights = member_weights([m.validation for m in bundle.manifest.members], "kappa")
    which = chosen_cells(best)
    test = np.flatnonzero(run.split == "test")
    crops = run.cells.crops[test[which]]
    maps = grad_cam(bundle, crops, weights)
    panels = []
    for k, i in enumerate(which):
        true = "ALL" if best.is_all[i] else "Hem"
        titles = [f"{m.name} {p:.2f}" for m, p in zip(bundle.manifest.members, run.p_all[test[i]], strict=True)]
        heat = np.concatenate([maps.members[k], maps.ensemble[k : k + 1]])
        image = draw_heatmaps(crops[k], f"true {true}", heat, [*titles, f"{BEST} {best.p_all[i]:.2f}"])
        panels.append((f"{run.cells.image[test[i]]}, true {true}, P(ALL) {best.p_all[i]:.2f}", image))
    return panels
