"""`all-detect score` and `segment`."""

import argparse
import sys
from collections.abc import Mapping

from tqdm import tqdm

from napari_all_detect.batch import BatchProgress, BatchSummary, Failure, score_batch, segment_batch
from napari_all_detect.cli.options import params_of
from napari_all_detect.export.report import most_first
from napari_all_detect.params import ClusterParams, OutputParams, ReadParams, ScoreParams, SegmentationParams
from napari_all_detect.research_use import RESEARCH_USE
from napari_all_detect.streams import one_line
from napari_all_detect.trust import domain_note

__all__ = ["score", "segment"]

NOTES_SHOWN = 3


class _Bar(BatchProgress):
    """A progress bar on standard error: planes, time left, cells and cells a second."""

    def note(self, text: str) -> None:
        print(one_line(text), file=sys.stderr)

    def start(self, planes: int) -> None:
        self.n_cells, self.speed = 0, ""
        self.bar = tqdm(total=planes, unit="image", file=sys.stderr, dynamic_ncols=True)

    def cells(self, n: int) -> None:
        self.n_cells += n
        elapsed = self.bar.format_dict["elapsed"]
        rate = self.n_cells / elapsed if elapsed > 0 else 0.0
        self.speed = f"{self.n_cells} cells, {rate:.0f} cells/s"
        self.bar.set_postfix_str(self.speed, refresh=False)

    def plane(self) -> None:
        self.bar.update()

    def writing(self, what: str) -> None:
        self.bar.set_postfix_str(", ".join(filter(None, [self.speed, f"writing {what}"])))

    def failed(self, failure: Failure) -> None:
        self.bar.write(one_line(f"{failure.input} failed ({failure.stage}): {failure.reason}"), file=sys.stderr)

    def close(self) -> None:
        if hasattr(self, "bar"):
            self.bar.set_postfix_str(self.speed, refresh=False)
            self.bar.close()


def _require_inputs(arguments: argparse.Namespace) -> None:
    if not arguments.inputs and getattr(arguments, "samples", None) is None:
        arguments.error("the following arguments are required: INPUT")


def score(arguments: argparse.Namespace) -> int:
    """Score images; print what was found."""
    _require_inputs(arguments)
    repeated = arguments.repeated
    if repeated is not None and arguments.inputs != repeated["inputs"]:
        repeated = None  # its settings, but other images
    nested = {"segmentation": params_of(SegmentationParams, arguments), "reading": params_of(ReadParams, arguments)}
    params = params_of(ScoreParams, arguments, **nested)
    bar = _Bar()
    print(one_line(f"loading the networks of {params.bundle} ..."), file=sys.stderr)
    try:
        output = params_of(OutputParams, arguments)
        cluster = params_of(ClusterParams, arguments)
        summary = score_batch(arguments.inputs, arguments.out, params, output, bar, repeated, cluster)
    finally:
        bar.close()
    uncertain = f", {summary.uncertain} uncertain" if summary.uncertain else ""
    print(
        f"{summary.cells} cells in {summary.planes} images: "
        f"{summary.called_all} ALL, {summary.called_hem} Hem{uncertain}"
    )
    note = domain_note(summary.out_of_domain, summary.cells)
    for said in filter(None, (note, summary.note, _notes_in_words(summary.notes, " in images.csv"))):
        print(one_line(said))
    _print_end(summary)
    print(RESEARCH_USE)
    return summary.exit_status


def _notes_in_words(notes: Mapping[str, int], where: str = "") -> str:
    """Say what is noted on most images, and where the rest is."""
    if not notes:
        return ""
    most = most_first(notes)
    shown = "; ".join(f"{note} ({n})" for note, n in most[:NOTES_SHOWN])
    more = f"; {len(most) - NOTES_SHOWN} more{where}" if len(most) > NOTES_SHOWN else ""
    return f"noted on images: {shown}{more}"


def segment(arguments: argparse.Namespace) -> int:
    """Find the cells of images; print how many."""
    _require_inputs(arguments)
    bar = _Bar()
    params, reading = params_of(SegmentationParams, arguments), params_of(ReadParams, arguments)
    try:
        summary = segment_batch(
            arguments.inputs, arguments.out, params, arguments.overwrite, bar, arguments.nuclei, reading
        )
    finally:
        bar.close()
    print(f"{summary.cells} cells in {summary.planes} images")
    if summary.notes:
        print(one_line(_notes_in_words(summary.notes)))
    _print_end(summary)
    return summary.exit_status


def _print_end(summary: BatchSummary) -> None:
    if summary.failures:
        print(f"{len(summary.failures)} inputs failed")
    print(f"results: {summary.folder}")
