import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

# The same examples on every run, and no limit on time that a busy machine would break.
settings.register_profile(
    "project",
    deadline=None,
    derandomize=True,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")


@pytest.fixture(scope="session", autouse=True)
def networks_made_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is made of bundles for OpenVINO from test to test, and out of the user's own cache."""
    os.environ["ALL_DETECT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["channels_last", "channels_first"])
def users_keras(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """Return what sets Keras as some keras.json of a user would, until the test ends."""
    from keras import config

    setters = config.set_floatx, config.set_epsilon, config.set_image_data_format, config.set_dtype_policy

    def change(*values: Any) -> None:
        for setter, value in zip(setters, values, strict=True):
            setter(value)

    before = config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy()
    yield lambda: change("float16", 1e-3, request.param, "float16")
    after = config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy().name
    change(*before)
    assert after == ("float16", 1e-3, request.param, "float16"), "the user's settings are lost"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real images that ALL_DETECT_DATA names; none of them is part of the project."""
    name = os.environ.get("ALL_DETECT_DATA")
    if not name:
        pytest.skip("ALL_DETECT_DATA is not set: it names the folder of real images")
    folder = Path(name)
    if not folder.is_dir():
        pytest.skip(f"ALL_DETECT_DATA names {folder}, which is no folder")
    return folder


class TinyMember(NamedTuple):
    architecture: str
    input_size: int
    cut: str
    preprocessing: str
    temperature: float
    kappa: float


TINY_CROP_SIZE = 40
TINY_MEMBERS = (
    TinyMember("vgg16", 32, "block1_pool", "caffe", 1.0, 0.9),
    TinyMember("mobilenet", TINY_CROP_SIZE, "conv_pw_2_relu", "tf", 2.5, 0.2),
    TinyMember("densenet121", 48, "pool2_pool", "torch", 0.6, 0.5),
)
MakeBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """Write a bundle whose networks have random weights but different opinions of drawn cells."""

    def make(folder: Path, members: tuple[TinyMember, ...] = TINY_MEMBERS, **changes: Any) -> Path:
        folder.joinpath("members").mkdir(parents=True)
        (folder / "MODEL_CARD.md").write_text("# Tiny\n\nRandom weights, for tests.\n", encoding="utf-8")
        facts = _facts([_member_facts(folder, seed, member) for seed, member in enumerate(members)])
        (folder / "bundle.json").write_text(json.dumps(facts | changes), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Path:
    """Three members of different input sizes, preprocessing and temperatures."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def duo_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Path:
    """The two of them that are built fastest."""
    return make_bundle(tmp_path_factory.mktemp("bundles") / "duo", TINY_MEMBERS[:2], name="duo")


@pytest.fixture
def reuse_engines(monkeypatch: pytest.MonkeyPatch, engines: dict[Any, Any]) -> None:
    """Build the networks of a bundle once, however often a test scores with it."""
    from napari_all_detect.engines import open_engine
    from napari_all_detect.pipeline import scorer

    def reuse(bundle: Any, params: Any) -> Any:
        key = bundle.digest, params.engine, params.precision, params.device, params.batch_size
        if key not in engines:
            engines[key] = open_engine(bundle, params)
        return engines[key]

    monkeypatch.setattr(scorer, "open_engine", reuse)


@pytest.fixture(scope="session")
def engines() -> dict[Any, Any]:
    return {}


@pytest.fixture(scope="session")
def smear() -> Callable[..., NDArray[np.uint8]]:
    """Draw a small smear: `smear(seed)`."""
    return _draw


def _draw(seed: int, shape: tuple[int, int] = (144, 176), n_cells: int = 6) -> NDArray[np.uint8]:
    from napari_all_detect.samples import draw_smear

    return draw_smear(shape, n_cells=n_cells, seed=seed).rgb


def _facts(members: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": "tiny",
        "version": "0.1",
        "description": "Random weights, for tests",
        "license": "CC0-1.0",
        "citation": "none",
        "created": "2026-01-31",
        "research_use_only": True,
        "classes": ["Hem", "ALL"],
        "crop": {
            "size": TINY_CROP_SIZE,
            "background": "black",
            "pixel_size_um": 0.25,
            "cell_diameter_px": 30.0,
        },
        "members": members,
        "ensemble": {"weighting": "kappa", "threshold": 0.5, "conformal": None},
        "domain": None,
        "training": {},
        "metrics": {},
    }


def _member_facts(folder: Path, seed: int, member: TinyMember) -> dict[str, Any]:
    from all_detect_training.weights import save_half_precision

    file = f"members/{member.architecture}.weights.h5"
    save_half_precision(_opinionated(seed, member), folder / file)
    figures = {"accuracy": 0.9 - 0.1 * seed, "auc": 0.7 + 0.1 * seed, "f1": 0.95 - 0.3 * seed}
    return {
        "name": member.architecture,
        "architecture": member.architecture,
        "cut": member.cut,
        "input_size": member.input_size,
        "preprocessing": member.preprocessing,
        "weights_file": file,
        "sha256": hashlib.sha256((folder / file).read_bytes()).hexdigest(),
        "temperature": member.temperature,
        "validation": {**figures, "kappa": member.kappa, "n": 100},
    }


def _opinionated(seed: int, member: TinyMember) -> Any:
    """Draw weights at random and set the last layer so that logits of drawn cells spread around 0."""
    import keras

    from napari_all_detect.crops import center_crop
    from napari_all_detect.networks import build_network, preprocess
    from napari_all_detect.segmentation import segment_cells

    rgb = _draw(100, (256, 256), 16)
    crops = center_crop(rgb, segment_cells(rgb), TINY_CROP_SIZE)
    keras.utils.set_random_seed(seed)
    network = build_network(member.architecture, member.input_size, member.cut)
    logits = network.predict_on_batch(preprocess(crops, member.input_size, member.preprocessing))
    kernel, _ = network.get_layer("logits").get_weights()
    scale = 1.5 / logits.std(axis=0)
    network.get_layer("logits").set_weights([kernel * scale, -logits.mean(axis=0) * scale])
    return network
