import ast
import errno
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from all_detect_training import checkpoint as checkpoint_module
from all_detect_training import fit, predicting, telling
from all_detect_training.cells import Cells
from all_detect_training.fit import fit_ensemble, fit_member
from all_detect_training.predicting import predict_p_all
from all_detect_training.presets import PRESETS, FitParams, MemberSpec
from all_detect_training.starting import compiled_network
from napari_all_detect.errors import InputError, OutputError
from napari_all_detect.networks import preprocess
from napari_all_detect.stain import normalise_stain

SPEC = MemberSpec("mobilenet", 32, "conv_pw_2_relu")
PARAMS = FitParams(members=(SPEC,), crop_size=32, epochs=4, step_epochs=2.0, batch_size=8, dropout=0.3)


def coloured() -> tuple[Cells, Any]:
    """Eighty squares whose colours overlap, so that there is something left to learn in every epoch."""
    rng = np.random.default_rng(0)
    is_all = np.arange(80) % 2 == 0
    colour = np.where(is_all[:, None, None, None], (120, 70, 170), (160, 110, 170)) + rng.normal(0, 25, (80, 1, 1, 3))
    crops = (colour + rng.normal(0, 20, (80, 32, 32, 3))).clip(1, 255).astype(np.uint8)
    cells = Cells(crops, is_all, np.array([f"a/{i}" for i in range(80)]), np.full(80, 30.0, np.float32))
    return cells, np.where(np.arange(80) < 50, "train", "validation")


def fit_in(folder: Path, params: FitParams) -> tuple[Any, list[dict[str, float]]]:
    """Train a member on coloured squares, with its checkpoint and its log in the folder."""
    return fit_member(*coloured(), SPEC, params, None, folder / "m.npz", folder / "m.csv")


def test_a_killed_training_ends_as_if_it_had_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "undisturbed").mkdir()
    undisturbed, expected = fit_in(tmp_path / "undisturbed", PARAMS)
    (tmp_path / "killed").mkdir()
    train_epoch, calls = fit._train_epoch, []

    def killed(*arguments: Any) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train_epoch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "_train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            fit_in(tmp_path / "killed", PARAMS)
    assert {p.name for p in (tmp_path / "killed").iterdir()} == {"m.npz", "m.csv"}
    resumed, history = fit_in(tmp_path / "killed", PARAMS)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    for row, wanted in zip(history, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    for found, wanted_weights in zip(resumed.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted_weights, atol=2e-3)
    _, once_more = fit_in(tmp_path / "killed", PARAMS)
    assert once_more == history


def test_the_rate_goes_on_where_it_was(tmp_path: Path) -> None:
    fit_in(tmp_path, replace(PARAMS, epochs=1))
    with np.load(tmp_path / "m.npz") as arrays:
        counts = [
            int(arrays[name]) for name in arrays.files if arrays[name].shape == () and "i" in arrays[name].dtype.kind
        ]
    assert 7 in counts  # updates of 50 cells in batches of 8, a bit more where one class is the rarer


def test_a_full_disk_is_said_and_keeps_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_in(tmp_path, replace(PARAMS, epochs=1))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint_module.np, "savez", full)
    with pytest.raises(OutputError, match=r"No space left on device.*go on with the same") as caught:
        fit_in(tmp_path, PARAMS)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.npz").write_bytes(b"PK no checkpoint")
    with pytest.raises(InputError, match=r"m\.npz: damaged"):
        fit_in(tmp_path, PARAMS)


def test_training_stops_when_nothing_gets_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auc = iter([0.5, 0.8, 0.7, 0.9, 0.8, 0.9, 0.95, 0.9])
    monkeypatch.setattr(fit, "member_figures", lambda *_: {"auc": next(auc)})
    _, history = fit_in(tmp_path, replace(PARAMS, epochs=9, patience=2))
    # The second 0.9 is as good, not better.
    assert [row["auc"] for row in history] == [0.5, 0.8, 0.7, 0.9, 0.8, 0.9]


@pytest.mark.parametrize("said", ["RESOURCE_EXHAUSTED: OOM when allocating", "CUDA error: out of memory"])
def test_a_gpu_without_memory_gets_half_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    cells, split = coloured()
    train_epoch = fit._train_epoch

    def small_memory(*arguments: Any) -> float:
        if arguments[4].batch_size > 3:
            raise RuntimeError(said)
        return train_epoch(*arguments)

    monkeypatch.setattr(fit, "_train_epoch", small_memory)
    with caplog.at_level(logging.WARNING):
        fit_ensemble(cells, split, replace(PARAMS, epochs=1), tmp_path)
    told = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert [text.rsplit(" ", 1)[1] for text in told] == ["4", "2"]
    assert (tmp_path / "mobilenet.npy").exists()
    header, row = (line.split(",") for line in (tmp_path / "mobilenet.csv").read_text().split())
    assert row[header.index("batch_size")] == "2"
    assert not list(tmp_path.glob("*.checkpoint.npz"))


def test_no_memory_for_one_cell_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, split = coloured()

    def no_memory(*_: Any) -> float:
        raise MemoryError

    monkeypatch.setattr(fit, "_train_epoch", no_memory)
    with pytest.raises(InputError, match="mobilenet: out of memory with one cell at a time; give it more") as caught:
        fit_ensemble(cells, split, PARAMS, tmp_path)
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, split = coloured()

    def broken(*_: Any) -> float:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(fit, "_train_epoch", broken)
    with pytest.raises(RuntimeError, match="no kernel"):
        fit_ensemble(cells, split, PARAMS, tmp_path)


def test_time_left_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fit_in(tmp_path, replace(PARAMS, epochs=2))
    told = [record.getMessage() for record in caplog.records]
    assert told[-1].endswith("0:00:00 left of this member")


def test_the_rate_is_in_the_log_of_a_fit_begun_before_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_file = tmp_path / "m.csv"
    save = fit.save_checkpoint

    def without_rate(path: Path, network: Any, rng: Any, progress: Any) -> None:
        rows = [{name: value for name, value in row.items() if name != "rate"} for row in progress.history]
        save(path, network, rng, replace(progress, history=rows))

    with monkeypatch.context() as patch:
        patch.setattr(fit, "save_checkpoint", without_rate)
        fit_in(tmp_path, replace(PARAMS, epochs=1))
    # A cycle of two epochs up, two down.
    assert float(log_file.read_text().split()[1].split(",")[3]) == pytest.approx(PARAMS.highest_rate / 2, rel=0.01)
    fit_in(tmp_path, replace(PARAMS, epochs=2))
    header, *rows = (line.split(",") for line in log_file.read_text().split())
    assert header[:4] == ["epoch", "loss", "batch_size", "rate"]
    assert rows[0][3] == ""
    assert float(rows[1][3]) == pytest.approx(PARAMS.highest_rate, rel=0.01)


@pytest.mark.parametrize(("preset", "size"), [("paper", 300), ("paper-450", 450)])
def test_the_papers_values(preset: str, size: int) -> None:
    params = PRESETS[preset]
    assert [m.architecture for m in params.members] == [
        "vgg16",
        "xception",
        "mobilenet",
        "inception_resnet_v2",
        "densenet121",
    ]
    assert {(m.input_size, m.cut, m.stretch) for m in params.members} == {(size, None, 1.0)}
    assert (params.crop_size, params.lowest_rate, params.highest_rate, params.step_epochs) == (size, 1e-7, 2e-3, 6)
    assert (params.label_smoothing, params.dropout, params.cells_per_epoch) == (0, 0, None)


def test_stain_is_normalised_where_the_crops_are() -> None:
    """A second copy of them may not fit into memory."""
    crops = coloured()[0].crops
    expected = normalise_stain(crops, "reinhard")
    fit._normalise(crops, "reinhard")
    np.testing.assert_array_equal(crops, expected)


def test_stain_is_not_normalised_where_nothing_is_left_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes minutes for the cells of C-NMC 2019."""
    monkeypatch.setattr(fit, "normalise_stain", lambda *_: pytest.fail("stain was normalised"))
    (tmp_path / "members").mkdir()
    for name in ("mobilenet.npy", "members/mobilenet.weights.h5"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.INFO):
        fit_ensemble(*coloured(), replace(PARAMS, stain_normalisation="macenko"), tmp_path)
    assert [record.getMessage() for record in caplog.records] == ["mobilenet: trained already"]


def test_an_epoch_tells_how_far_it_has_come(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "FIRST_S", 0)
    monkeypatch.setattr(predicting, "PREDICTED_PX", 20 * SPEC.input_size**2)
    with caplog.at_level(logging.INFO, "all_detect_training"):
        network, _ = fit_in(tmp_path, replace(PARAMS, epochs=1))
        predict_p_all(network, coloured()[0].crops, SPEC)
    assert "mobilenet: cells of this epoch: 8 of 50, about " in caplog.text
    assert "mobilenet: predicting cells: 20 of 80, about " in caplog.text


def test_stain_options_reach_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, split = coloured()
    asked: list[tuple[str, Any]] = []

    def normalise(crops: Any, method: str | None) -> Any:
        asked.append(("normalisation", method))
        return crops // 2

    def jitter(crops: Any, strength: float, _: Any) -> Any:
        assert crops.max() < 128
        asked.append(("jitter", strength))
        return crops

    monkeypatch.setattr(fit, "normalise_stain", normalise)
    monkeypatch.setattr(fit, "jitter_stain", jitter)
    params = replace(PARAMS, epochs=1, stain_normalisation="reinhard", stain_jitter=0.2)
    fit_ensemble(cells, split, params, tmp_path)
    assert asked[0] == ("normalisation", "reinhard")
    assert set(asked[1:]) == {("jitter", 0.2)}


@pytest.mark.parametrize("turned", [False, True])
def test_a_finished_member_that_ranks_cells_otherwise_than_its_epoch_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, turned: bool
) -> None:
    """As one does that learned nothing: epochs are told apart in mixed precision, what is finished is in fp32."""
    cells, split = coloured()

    def predict(_: Any, crops: Any, __: Any) -> Any:
        is_finished = len(crops) == len(cells)  # else only validation cells are asked for
        p_all = np.where(cells.is_all if is_finished else cells.is_all[split == "validation"], 0.6, 0.4)
        return 1 - p_all if is_finished and turned else p_all

    monkeypatch.setattr(fit, "predict_p_all", predict)
    fit_ensemble(cells, split, replace(PARAMS, epochs=1), tmp_path)
    said = "mobilenet: validation AUC 0.000, but 1.000 while it was trained"
    own = [record.getMessage() for record in caplog.records if record.name.startswith("all_detect_training")]
    assert [message[: len(said)] for message in own] == [said] * turned


class Shown:
    """Stands in for a network: keeps what it is shown."""

    def __init__(self) -> None:
        self.batches: list[tuple[Any, Any]] = []

    def train_on_batch(self, pixels: Any, classes: Any) -> float:
        self.batches.append((np.asarray(pixels), classes))
        return 0.5

    def reset_metrics(self) -> None:
        pass


def test_an_epoch_shows_each_cell_once_moved_and_with_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, _ = coloured()
    asked: list[Any] = []

    def mirrored(n: int, size: int, _: Any, **ranges: float) -> Any:
        asked.append((n, size, ranges))
        return np.tile(np.array([-1, 0, size - 1, 0, 1, 0, 0, 0], np.float32), (n, 1))

    monkeypatch.setattr(fit, "random_transforms", mirrored)
    ranges = {"rotation_degrees": 10.0, "zoom": 0.2, "shift": 0.3}
    network, order = Shown(), np.random.default_rng(1).permutation(80)[:20]
    fit._train_epoch(network, cells, order, SPEC, replace(PARAMS, **ranges), np.random.default_rng(0))
    assert asked == [(n, 32, ranges) for n in (8, 8, 4)]
    pixels, classes = (np.concatenate(parts) for parts in zip(*network.batches, strict=True))
    np.testing.assert_allclose(pixels, preprocess(cells.crops[order][:, :, ::-1], 32, "tf"), atol=1e-5)
    np.testing.assert_array_equal(classes, np.stack([~cells.is_all[order], cells.is_all[order]], axis=1))


def test_only_cells_that_train_are_shown_and_only_those_that_validate_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, _ = coloured()
    split = np.repeat(["train", "validation", "test"], [50, 20, 10])
    orders: list[Any] = []
    judged: list[Any] = []

    def shown(_: Any, __: Any, order: Any, *___: Any) -> float:
        orders.append(order.tolist())
        return 0.5

    def predict(_: Any, crops: Any, __: Any) -> Any:
        judged.append(crops)
        return np.linspace(0, 1, len(crops), dtype=np.float32)

    monkeypatch.setattr(fit, "_train_epoch", shown)
    monkeypatch.setattr(fit, "predict_p_all", predict)
    starts = []
    for k, seed in enumerate((1, 1, 2)):
        params = replace(PARAMS, epochs=2, cells_per_epoch=30, seed=seed)
        files = tmp_path / f"{k}.npz", tmp_path / f"{k}.csv"
        network, history = fit_member(cells, split, replace(SPEC, stretch=1.5), params, None, *files)
        assert len(history) == 3
        starts.append(network.get_weights()[0])
    assert {len(order) for order in orders} == {30}
    assert len({i for order in orders for i in order} & set(range(50))) > 40
    assert max(map(max, orders)) < 50
    for crops in judged:
        np.testing.assert_array_equal(crops, cells.crops[50:70])
    assert orders[:3] == orders[3:6] != orders[6:]
    assert orders[0] != orders[1]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert (starts[0] != starts[2]).any()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_member_has_its_own_rate_and_cycle_and_the_presets_loss(mixed: bool) -> None:
    import keras

    spec = replace(SPEC, rate=0.5, stretch=3.0)
    params = replace(PARAMS, lowest_rate=1e-5, highest_rate=2e-3, label_smoothing=0.1, mixed_precision=mixed)
    network = compiled_network(spec, params, None, 10)
    for update, rate in ((0, 1e-5), (30, (1e-5 + 1e-3) / 2), (60, 1e-3), (120, 1e-5)):
        network.optimizer.iterations.assign(update)
        assert float(network.optimizer.learning_rate) == pytest.approx(rate, rel=1e-4)
    loss = network.loss.get_config()
    assert (loss["from_logits"], loss["label_smoothing"]) == (True, 0.1)
    assert 0.3 in [layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)]
    assert ("bfloat16" in {layer.compute_dtype for layer in network.layers}) == mixed
    assert {weight.dtype.name for weight in network.get_weights()} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_training_stays_within_what_every_backend_of_keras_has() -> None:
    """No module that trains names a backend's own library."""
    root = Path(fit.__file__).parent
    named = {
        (path.name, name.partition(".")[0])
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert ("fit.py", "keras") in named
    assert not {name for _, name in named} & {"tensorflow", "tf_keras", "jax", "torch"}


@pytest.mark.parametrize("mixed", [False, True])
def test_the_users_own_settings_of_keras_change_no_bit(
    tmp_path: Path, users_keras: Callable[[], None], mixed: bool
) -> None:
    cells, split = coloured()
    params = replace(PARAMS, epochs=1, mixed_precision=mixed)
    fit_ensemble(cells, split, params, tmp_path / "usual")
    users_keras()
    fit_ensemble(cells, split, params, tmp_path / "theirs")
    usual, theirs = ((tmp_path / run / "mobilenet.npy").read_bytes() for run in ("usual", "theirs"))
    assert theirs == usual


def test_the_log_has_a_row_more_after_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, split = coloured()
    train_epoch, rows = fit._train_epoch, []

    def watched(*arguments: Any) -> float:
        log_file = tmp_path / "mobilenet.csv"
        rows.append(len(log_file.read_text().splitlines()) - 1 if log_file.exists() else None)
        return train_epoch(*arguments)

    monkeypatch.setattr(fit, "_train_epoch", watched)
    fit_ensemble(cells, split, replace(PARAMS, epochs=3), tmp_path)
    assert rows == [None, 1, 2]
    assert len((tmp_path / "mobilenet.csv").read_text().splitlines()) == 1 + 3
