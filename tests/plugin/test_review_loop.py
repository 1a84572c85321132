"""Score, review, train on the verdicts, load the new bundle, score again."""

import pytest

from all_detect_training import cli
from all_detect_training.commands import fit as fit_command
from all_detect_training.presets import FitParams, MemberSpec
from napari_all_detect import ScoreParams, draw_smear
from napari_all_detect._napari.cells.layer_link import results_of
from napari_all_detect._napari.cells.review import Reviewer
from napari_all_detect._napari.files.verdicts import save_crops
from napari_all_detect._napari.run.task import Task

pytestmark = pytest.mark.filterwarnings("ignore:kappa of members is:UserWarning")


def test_the_ensemble_learns_from_the_users_own_cells(viewer, controller, loop, tmp_path, monkeypatch):
    drawn = draw_smear((400, 400), n_cells=24, seed=5, touching=0)
    image = viewer.add_image(drawn.rgb, name="smear.png")

    def score(bundle):
        controller.score(Task(image, None, ScoreParams(bundle=bundle, batch_size=2)))
        loop.run_until(lambda: not controller.state.busy)
        return results_of(viewer.layers[-1])

    results = score("lite")
    reviewer = Reviewer(results)
    while (row := reviewer.current) is not None:
        y, x = (round(v) for v in results.position(row))
        cell = drawn.labels[y, x]
        reviewer.judge(drawn.classes[cell - 1] if cell else "unsure")
    counts = save_crops(results, tmp_path / "reviewed")
    assert min(counts.values()) >= 8

    size = results.run.crop_size
    own = FitParams((MemberSpec("vgg16", 32, "block1_pool"),), crop_size=size, epochs=2, step_epochs=1.0, batch_size=8)
    monkeypatch.setattr(fit_command, "PRESETS", {"own": own})
    run, bundle = str(tmp_path / "run"), str(tmp_path / "mine")
    assert (
        cli.main(["fit", "--preset", "own", "--cells", str(tmp_path / "reviewed"), "--out", run, "--workers", "1"]) == 0
    )
    assert cli.main(["export", run, "--out", bundle, "--name", "mine", "--version", "1.0.0"]) == 0

    again = score(bundle)
    assert set(again.table["bundle"]) == {"mine-1.0.0"}
    assert again.table["label"].tolist() == results.table["label"].tolist()
    assert again.run.members == ("vgg16",)
    assert (again.rows.crops == results.rows.crops).all()
    assert not again.table["p_all"].equals(results.table["p_all"])
