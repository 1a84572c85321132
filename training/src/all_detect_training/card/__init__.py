"""The model card: what a bundle is, what it was trained on, how well it does, and what it must not be used for."""

from all_detect_training.card.held_out import confusion_section, held_out_section, subjects_section, trust_section
from all_detect_training.card.provenance import split_section, training_data_section, training_section
from all_detect_training.card.reproducing import reproduce_section
from all_detect_training.card.tables import table
from all_detect_training.resampling import NO_INTERVAL
from napari_all_detect.bundle.manifest import Manifest
from napari_all_detect.research_use import RESEARCH_USE

__all__ = ["model_card"]

INTENDED_USE = """\
## Intended use

Research on stained smears: to find out where in a set of images cells look more like leukemic lymphoblasts (ALL) or
more like normal cells (Hem), to compare methods, to sort cells for a closer look by people who can judge them.

## What it must not be used for

- Diagnosis, screening, decisions on treatment, or anything else that touches a patient's care. It is no medical
  device, nobody has validated it clinically, and a high probability is not a finding.
- Images of other stains, species, specimens, microscopes or magnifications than those it was trained on, unless you
  have checked it on labelled images of your own first.
- Other diseases: it knows two classes, and a cell that is of neither is called one of them, or `uncertain`, all the
  same.
"""

PATIENTS_UNKNOWN = """\
- **Patients are unknown.** The split knows images, not patients, of whom one may be on both sides. Contiguous blocks
  make that less likely, but cannot rule it out, least of all at their borders; other splits do not even that. The
  figures are therefore optimistic: expect less on a new patient, and less again on images of another laboratory.
"""

LIMITS = """\
- **Part of what is learned may be the slide.** Where the classes come from different slides, patients or batches of
  stain, their colours differ too, and nothing in these figures parts the disease from the stain.
"""


def model_card(manifest: Manifest, data_notes: str = "") -> str:
    """Write a bundle's model card.

    Parameters
    ----------
    manifest : Manifest
        Every number in the card is one of its numbers.
    data_notes : str
        Markdown on the data set, included as it is under "Training data".

    Returns
    -------
    card : str
        Markdown.
    """
    parts = [
        _title(manifest),
        _what_it_is(manifest),
        INTENDED_USE,
        training_data_section(manifest, data_notes),
        split_section(manifest),
        training_section(manifest),
        held_out_section(manifest),
        confusion_section(manifest),
        subjects_section(manifest),
        trust_section(manifest),
        _computed(manifest),
        _limits(manifest),
        reproduce_section(manifest, bool(data_notes)),
        f"## License\n\n{manifest.license}\n",
        f"## Citation\n\n{manifest.citation}\n",
    ]
    return "\n".join(part for part in parts if part)


def _title(manifest: Manifest) -> str:
    return (
        f"# Model card: {manifest.name} {manifest.version}\n\n{manifest.description}\n\n"
        f"**{RESEARCH_USE}** Trained {manifest.created}.\n"
    )


def _what_it_is(manifest: Manifest) -> str:
    cut = any(m.cut for m in manifest.members)
    rows = [
        [
            m.architecture,
            f"`{m.cut}`" if m.cut else "whole",
            f"{m.input_size} px",
            *(f"{v:.3f}" for v in (m.validation.accuracy, m.validation.auc, m.validation.f1, m.validation.kappa)),
        ]
        for m in manifest.members
    ]
    head = ["member", "ends after", "input", "accuracy", "AUC", "F1", "kappa"]
    return (
        "## What it is\n\n"
        f"{len(manifest.members)} convolutional networks{' cut early' if cut else ''}, whose votes are weighted as by "
        "Mondal et al. (2021), Eq. 2: a cell's probability of ALL is the mean of the members' probabilities, weighted "
        f"by each member's validation {manifest.ensemble.weighting}. {_called(manifest)} "
        f"Cells are shown alone on black, {manifest.crop.size} px wide crops at a scale at "
        f"which the median cell measures {manifest.crop.cell_diameter_px:g} px{_stain(manifest)}.\n\n"
        f"{table(head, rows)}\n\n"
        f"Accuracy, AUC, F1 and kappa are those on the {manifest.members[0].validation.n} validation cells; they are "
        "the weights W_k that Eq. 2 can use.\n"
    )


def _called(manifest: Manifest) -> str:
    start = "Where no error rate decides (below), a" if manifest.ensemble.conformal else "A"
    return f"{start} cell is called ALL from {manifest.ensemble.threshold:g} on."


def _stain(manifest: Manifest) -> str:
    method = manifest.crop.stain_normalisation
    return f", each cell's colours brought to a reference's ({method})" if method else ""


def _computed(manifest: Manifest) -> str:
    interval = manifest.metrics["interval"]
    return (
        "## How the figures were computed\n\n"
        "With the weights that the bundle holds, on test images only. In brackets: "
        f"{interval['level']:.0%} intervals by a {interval['method']} ({interval['resamples']} resamples, seed "
        f"{interval['seed']}; {_drawn(manifest)}). Calls are made "
        f"at {manifest.metrics['threshold']:g}; members, weights and threshold stay the same in every resample. n/a: "
        f"not defined on these images. {NO_INTERVAL}\n"
    )


def _drawn(manifest: Manifest) -> str:
    if "subjects" in manifest.metrics:
        return "whole subjects are drawn, as cells of one are no independent draws"
    return "whole images are drawn, as cells of an image are no independent draws"


def _limits(manifest: Manifest) -> str:
    known = manifest.training["split"]["subjects"] != "unknown"
    chosen, not_covered = ("images only", "patients, ") if "subjects" not in manifest.metrics else ("subjects", "")
    covered = (
        f"- The intervals cover the choice of test {chosen}, not that of {not_covered}laboratories or training runs.\n"
    )
    return "## Known limits\n\n" + ("" if known else PATIENTS_UNKNOWN) + LIMITS + covered + _calibration(manifest)


def _calibration(manifest: Manifest) -> str:
    ensemble = manifest.ensemble
    if ensemble.temperatures[ensemble.weighting] != 1 or any(m.temperature != 1 for m in manifest.members):
        return ""
    return (
        "- **Probabilities are not calibrated.** The validation cells are all told apart, or nearly, and don't show "
        "how sure to be. Of the cells given 0.9, more or fewer than nine in ten may be ALL; the classes were balanced "
        "for training, and are not in a patient.\n"
    )
