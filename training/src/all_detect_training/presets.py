"""What is trained and how: every value that `fit` uses, with the shipped presets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ConfigDict, Field

__all__ = ["PRESETS", "FitParams", "MemberSpec", "departures", "with_options"]

Count = Annotated[int, Field(ge=1, le=1_000_000)]
CropPixels = Annotated[int, Field(ge=16, le=2048)]
InputPixels = Annotated[int, Field(ge=32, le=1024)]
"""Both as of a bundle: what is trained must be one that can be exported."""

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""How `preset_file` reads both from a file."""


@dataclass(frozen=True)
class MemberSpec:
    """One network to train: an architecture of `napari_all_detect.networks`, where it ends and what it is fed."""

    __pydantic_config__ = STRICT

    architecture: str
    input_size: InputPixels
    cut: str | None = None
    stretch: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Epochs over those of the others; the rate's cycle stretches along."""
    rate: Positive = 1.0
    """Highest rate over that of the others."""


@dataclass(frozen=True)
class FitParams:
    """How members are trained.

    The optimiser, its schedule, the loss, the oversampling and the kinds of augmentation are those of Mondal et al.
    (2021, sections 2.2 and 2.4); a preset says where it departs from their values. Ranges are those that
    `preset_file` holds a file to.
    """

    __pydantic_config__ = STRICT

    members: tuple[MemberSpec, ...]
    crop_size: CropPixels
    epochs: Count
    cells_per_epoch: Count | None = None
    """Of the oversampled cells an epoch shows this many, drawn afresh; None shows all."""
    batch_size: Count = 32
    lowest_rate: Positive = 1e-7
    highest_rate: Positive = 2e-3
    step_epochs: Positive = 6.0
    """Epochs from the lowest to the highest rate: half a cycle."""
    dropout: Share = 0.0
    label_smoothing: Share = 0.0
    """Share of a label's certainty that is given to the other class."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    zoom: Share = 0.1
    shift: Share = 0.1
    """Largest zoom and shift, as shares of the crop's side."""
    stain_jitter: Share = 0.0
    """Largest change of a stain's amount and, in optical density, of its offset; 0 leaves the colours as they are."""
    stain_normalisation: str | None = None
    """What brings each cell's colours to a reference's first, here and when the bundle scores: `reinhard`, `macenko`
    or nothing."""
    train_share: Part = 0.60
    validation_share: Part = 0.15
    """The rest of every class is the test set."""
    mixed_precision: bool = False
    patience: Count | None = None
    """Epochs without a better validation AUC after which a member is done; None trains all."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 2021


def with_options(
    params: FitParams, *, epochs: int | None = None, members: Sequence[str] | None = None, **others: Any
) -> FitParams:
    """Return values with those that `fit`'s options replace; None leaves one as it is.

    Parameters
    ----------
    params : FitParams
    epochs : int, optional
        The rate's cycle stretches along.
    members : sequence of str, optional
        Architectures; others are left out.
    **others
        Fields of `FitParams`.
    """
    if members is not None:
        params = replace(params, members=tuple(m for m in params.members if m.architecture in members))
    if epochs is not None:
        params = replace(params, epochs=epochs, step_epochs=params.step_epochs * epochs / params.epochs)
    return replace(params, **{name: value for name, value in others.items() if value is not None})


def departures(preset: str, params: FitParams) -> list[str]:
    """Return the names of the values that are not those of the shipped preset; none if no preset is called so."""
    shipped = PRESETS.get(preset, params)
    return [f.name for f in fields(params) if getattr(params, f.name) != getattr(shipped, f.name)]


FAMILIES = ("vgg16", "xception", "mobilenet", "inception_resnet_v2", "densenet121")


def _paper(size: int) -> FitParams:
    """Return the whole networks of Mondal et al. (2021) at 300 px (cropped) or 450 px (as published).

    Architectures, optimiser, rates, step, loss, oversampling and kinds of augmentation are the paper's. It does not
    say for how many epochs it trained, in which batches, and how far it rotated, zoomed and shifted: those values are
    ours, three cycles of the rate at most.
    """
    members = tuple(MemberSpec(family, size) for family in FAMILIES)
    return FitParams(members=members, crop_size=size, epochs=36, patience=12, mixed_precision=True)


PRESETS: Mapping[str, FitParams] = MappingProxyType(
    {
        # Trunks cut early and fed small crops: under 10 MB and hundreds of cells a second on two cores. Its schedule is
        # short, one cycle of triangular2, and its peak rate half of the paper's, as most of a cut trunk is ImageNet's.
        # Labels that cells inherit from their smear are not sure, hence smoothed: unsmoothed, the overconfident members
        # drowned the better one's doubts (WEN-kappa 0.9896 beside Xception's 0.9907). Members that learn from scratch
        # where no ImageNet trunk is at hand were behind after as many epochs as the others take; VGG-16, which has no
        # batch normalisation, takes a lower rate, too.
        "lite": FitParams(
            members=(
                MemberSpec("vgg16", 56, "block3_conv2", stretch=3, rate=0.4),
                MemberSpec("xception", 72, "block4_sepconv2_bn"),
                MemberSpec("mobilenet", 96, "conv_pw_6_relu"),
                MemberSpec("inception_resnet_v2", 80, "mixed_5b", stretch=3),
                MemberSpec("densenet121", 64, "pool3_pool", stretch=4),
            ),
            crop_size=56,
            epochs=6,
            cells_per_epoch=5000,
            highest_rate=1e-3,
            step_epochs=3.0,
            dropout=0.2,
            label_smoothing=0.1,
            mixed_precision=True,
        ),
        "paper": _paper(300),
        "paper-450": _paper(450),
    }
)
