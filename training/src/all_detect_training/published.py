"""What others printed for C-NMC 2019, as far as it could be checked: each figure has its source, none is guessed."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["METHODS", "TABLE_4", "PublishedMethod"]

TABLE_4: Mapping[tuple[int, str], Mapping[str, float]] = {
    (300, "xception"): {"weighted_f1": 0.860, "balanced_accuracy": 0.859, "auc": 0.939},
    (300, "WEN-kappa"): {
        "weighted_precision": 0.887,
        "weighted_recall": 0.888,
        "weighted_f1": 0.886,
        "accuracy": 0.888,
        "balanced_accuracy": 0.862,
        "auc": 0.941,
    },
}
"""Of Table 4 of the preprint of Mondal et al. (2021, arXiv:2105.03995), on the preliminary set, by input size and
classifier: their best ensemble and their best member. We don't have the other rows. The balanced accuracy of their
confusion matrix (502, 146; 64, 1155) is 0.861.

The article in the journal has other figures: its abstract (read on an author's page) gives the ensemble a weighted F1
of 0.897, a balanced accuracy of 0.883 and an AUC of 0.948. Which row of its table that is, and the table, we don't
have."""


@dataclass(frozen=True)
class PublishedMethod:
    """A method, and its weighted F1 as its authors print it.

    Attributes
    ----------
    authors, method, source : str
    preliminary, final : float or None
        On the preliminary set, 1,867 cells, and on the final one, 2,586, whose labels were never published; None where
        it is not printed, or we don't have it.
    """

    authors: str
    method: str
    source: str
    preliminary: float | None = None
    final: float | None = None


METHODS = (
    PublishedMethod(
        "Pan et al. 2019",
        "fine-tuned residual networks, labels corrected by neighbours",
        "Neighborhood-correction algorithm for classification of normal and malignant cells, ISBI 2019 C-NMC "
        "Challenge, Lecture Notes in Bioengineering, 73-82",
        preliminary=0.9250,
        final=0.9104,
    ),
    PublishedMethod(
        "Prellberg and Kramer 2019",
        "ResNeXt with squeeze-and-excitation",
        "Acute lymphoblastic leukemia classification from microscopic images using convolutional neural networks, "
        "arXiv:1906.09020",
        final=0.8891,
    ),
    PublishedMethod(
        "Mondal et al. 2021",
        "five CNNs, weighted votes",
        "Ensemble of convolutional neural networks to diagnose acute lymphoblastic leukemia from microscopic images, "
        "Informatics in Medicine Unlocked 27, 100794, abstract (read on an author's page)",
        preliminary=0.897,
    ),
    PublishedMethod(
        "Mondal et al. 2021, preprint",
        "five CNNs, votes weighted by kappa",
        "Acute lymphoblastic leukemia detection from microscopic images using weighted ensemble of convolutional "
        "neural networks, arXiv:2105.03995",
        preliminary=0.886,
    ),
    PublishedMethod(
        "Marzahl et al. 2019",
        "ResNet-18 with an attention by region proposals",
        "Classification of leukemic B-lymphoblast cells from blood smear microscopic images with an attention-based "
        "deep learning method and advanced augmentation techniques, ISBI 2019 C-NMC Challenge, "
        "doi:10.1007/978-981-15-0798-4_2",
        preliminary=0.8746,
        final=0.8284,
    ),
)
"""Those whose test set is one that everybody had; figures on a split of one's own can't be put beside them."""
