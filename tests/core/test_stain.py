import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import rgb2lab

from napari_all_detect.bundle import load_bundle
from napari_all_detect.crops import center_crop
from napari_all_detect.engines import open_engine
from napari_all_detect.errors import BundleError
from napari_all_detect.explain import grad_cam
from napari_all_detect.params import ScoreParams
from napari_all_detect.pipeline import score_image
from napari_all_detect.samples import draw_smear
from napari_all_detect.stain import LAB_DEVIATION, LAB_MEAN, METHODS, normalise_stain

DOMAIN = {
    "mean": [150.0, 100.0, 170.0, 25.0, 25.0, 25.0],
    "covariance": (np.eye(6) * 400.0).tolist(),
    "threshold": 1.0,
    "false_alarm_rate": 0.02,
    "least_sharpness": 0.1,
    "n": 100,
}
CAST = {"warm lamp": (1.12, 1.0, 0.82), "cool lamp": (0.9, 1.0, 1.1), "dark": (0.75, 0.75, 0.75)}


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    smear = draw_smear((200, 200), n_cells=8, seed=1, border=0)
    return center_crop(smear.rgb, smear.labels, 56)


def under(crops: NDArray[np.uint8], gains: tuple[float, float, float]) -> NDArray[np.uint8]:
    lit = np.clip(np.rint(crops * gains), 1, 255)
    return np.where(crops.any(axis=-1, keepdims=True), lit, 0).astype(np.uint8)


def apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    inside = a.any(axis=-1)
    return float(np.abs(a[inside].astype(float) - b[inside]).mean())


def test_no_method_changes_nothing(crops: NDArray[np.uint8]) -> None:
    assert normalise_stain(crops, None) is crops


@pytest.mark.parametrize("cast", CAST)
@pytest.mark.parametrize("method", METHODS)
def test_another_lamp_makes_less_of_a_difference(crops: NDArray[np.uint8], method: str, cast: str) -> None:
    other = under(crops, CAST[cast])
    assert apart(normalise_stain(crops, method), normalise_stain(other, method)) < 0.5 * apart(crops, other)


@pytest.mark.parametrize("method", METHODS)
def test_the_background_stays_black_and_the_cell_does_not_become_it(crops: NDArray[np.uint8], method: str) -> None:
    done = normalise_stain(crops, method)
    assert done.dtype == np.uint8
    np.testing.assert_array_equal(done.any(axis=-1), crops.any(axis=-1))


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_does_not_depend_on_the_others(crops: NDArray[np.uint8], method: str) -> None:
    together = normalise_stain(crops, method)
    for i in (0, len(crops) - 1):
        np.testing.assert_array_equal(normalise_stain(crops[i : i + 1], method)[0], together[i])


def test_reinhard_brings_cielab_to_the_reference(crops: NDArray[np.uint8]) -> None:
    done = normalise_stain(crops, "reinhard")
    inside = done[0].any(axis=-1)
    lab = rgb2lab(done[0])[inside]
    # What no screen can show is clipped.
    np.testing.assert_allclose(lab.mean(axis=0), LAB_MEAN, atol=2.5)
    np.testing.assert_allclose(lab.std(axis=0), LAB_DEVIATION, atol=3)


def test_macenko_tells_the_stains_of_a_mixture() -> None:
    rng = np.random.default_rng(0)
    stains = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    amounts = rng.uniform(0, 1, (32 * 32, 2))
    crop = np.rint(256 * np.exp(-amounts @ stains) - 1).clip(1, 255).reshape(1, 32, 32, 3).astype(np.uint8)
    twice = np.rint(256 * np.exp(-1.4 * amounts @ stains) - 1).clip(1, 255).reshape(1, 32, 32, 3).astype(np.uint8)
    assert apart(normalise_stain(crop, "macenko"), normalise_stain(twice, "macenko")) < 0.1 * apart(crop, twice)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("reinhard", [(117, 109, 241), (119, 117, 239), (170, 139, 255), (170, 145, 254)]),
        ("macenko", [(128, 115, 226), (150, 152, 225), (145, 109, 245), (156, 124, 244)]),
    ],
)
def test_the_reference_never_changes(method: str, expected: list[tuple[int, int, int]]) -> None:
    """Bundles were trained on these colours: with others they would score otherwise."""
    y, x = np.mgrid[:16, :16]
    nucleus = (y - 8) ** 2 + (x - 8) ** 2 < 25
    amounts = np.where(nucleus, 1.0, 0.3) + 0.02 * ((3 * y + 5 * x) % 7), 0.2 + 0.05 * ((y + 2 * x) % 5)
    density = np.stack(amounts, axis=-1) @ [[0.65, 0.70, 0.29], [0.27, 0.95, 0.11]]
    crop = np.rint(256 * np.exp(-density) - 1).astype(np.uint8)
    crop[0, 0] = 0
    crop[12:, 12:] = 215, 245, 240  # too pale to tell a stain
    done = normalise_stain(crop[None], method)[0]
    np.testing.assert_allclose(done[[8, 8, 3, 14], [8, 4, 3, 2]], expected, atol=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("colour", [(0, 0, 0), (1, 1, 1), (90, 60, 140), (255, 255, 255), (0, 255, 0), (255, 0, 0)])
def test_a_flat_cell_is_no_trouble(method: str, colour: tuple[int, int, int]) -> None:
    crop = np.zeros((1, 16, 16, 3), np.uint8)
    crop[0, 4:12, 4:12] = colour
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = normalise_stain(crop, method)
    np.testing.assert_array_equal(done.any(axis=-1), crop.any(axis=-1))


@pytest.mark.parametrize("method", METHODS)
def test_noise_of_all_colours_is_no_trouble(method: str) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (20, 12, 12, 3)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert normalise_stain(crops, method).shape == crops.shape


@pytest.mark.parametrize("method", METHODS)
def test_no_cells_give_no_cells(method: str) -> None:
    assert normalise_stain(np.zeros((0, 8, 8, 3), np.uint8), method).shape == (0, 8, 8, 3)


def test_a_bundle_that_was_trained_so_scores_and_explains_so(duo_bundle: Path, tmp_path: Path) -> None:
    rgb = draw_smear((144, 176), n_cells=6, seed=1).rgb
    facts = json.loads((duo_bundle / "bundle.json").read_text())
    facts["domain"] = DOMAIN
    for method in (None, "reinhard"):
        folder = Path(shutil.copytree(duo_bundle, tmp_path / str(method)))
        facts["crop"]["stain_normalisation"] = method
        (folder / "bundle.json").write_text(json.dumps(facts))
    plain, normalised = (score_image(rgb, bundle=str(tmp_path / name)) for name in ("None", "reinhard"))
    bundle = load_bundle(tmp_path / "reinhard")
    expected = open_engine(bundle, ScoreParams()).predict(normalise_stain(plain.crops, "reinhard"))
    np.testing.assert_allclose(normalised.member_probabilities, expected, atol=1e-6)
    assert np.abs(normalised.member_probabilities - plain.member_probabilities).max() > 0.01
    # Domain and flags see the cells as they are, and so does the user.
    np.testing.assert_array_equal(normalised.crops, plain.crops)
    for column in ("domain_distance", "flags"):
        np.testing.assert_array_equal(normalised.table[column], plain.table[column])
    shown = grad_cam(bundle, plain.crops, [1, 1]).members
    other = grad_cam(load_bundle(duo_bundle), normalise_stain(plain.crops, "reinhard"), [1, 1]).members
    np.testing.assert_allclose(shown, other, atol=1e-4)


def test_a_bundle_with_an_unknown_method_is_refused(duo_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(duo_bundle, tmp_path / "other"))
    facts = json.loads((folder / "bundle.json").read_text())
    facts["crop"]["stain_normalisation"] = "vahadane"
    (folder / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(BundleError, match=r"crop\.stain_normalisation"):
        load_bundle(folder)
