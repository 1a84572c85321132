import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

from napari_all_detect._napari.cells.review import Reviewer, agreement
from napari_all_detect._napari.cells.summary import summarise
from napari_all_detect._napari.files.verdicts import save_crops
from napari_all_detect.errors import OutputError

VOTES = [[0.9, 0.9, 0.9], [0.4, 0.5, 0.5], [0.1, 0.1, 0.1], [0.7, 0.7, 0.7]]


def test_the_most_uncertain_cells_come_first_and_back_goes_back(results):
    reviewer = Reviewer(results(VOTES))
    walked = []
    while reviewer.current is not None:
        walked.append(reviewer.current)
        reviewer.judge("ALL")
    assert walked == [1, 3, 0, 2]
    assert reviewer.n_judged == 4
    reviewer.judge("Hem")
    assert reviewer.results.verdicts.tolist() == ["ALL"] * 4
    reviewer.back()
    reviewer.back()
    assert reviewer.current == 0
    assert reviewer.results.verdicts.tolist() == ["", "ALL", "", "ALL"]


def test_another_threshold_does_not_shuffle_a_review(results):
    reviewer = Reviewer(results(VOTES))
    reviewer.judge("unsure")
    reviewer.results.threshold = 0.1
    reviewer.go_on()
    assert reviewer.current == 3


def test_what_is_selected_is_judged_and_a_judged_cell_can_be_judged_again(results):
    found = results(VOTES)
    # As verdicts are after scoring anew: kept, and nobody has given them here.
    found.take_verdicts(["", "ALL", "", ""])
    reviewer = Reviewer(found)
    assert not reviewer.can_go_back
    for row, verdict in ((2, "Hem"), (1, "unsure")):
        found.select([0, row])
        assert reviewer.current == row
        reviewer.judge(verdict)
        assert found.selected.tolist() == [3]
    assert found.verdicts.tolist() == ["", "unsure", "Hem", ""]
    reviewer.back()
    assert found.selected.tolist() == [1]
    assert found.verdicts.tolist() == ["", "ALL", "Hem", ""]
    reviewer.back()
    assert found.selected.tolist() == [2]
    assert found.verdicts.tolist() == ["", "ALL", "", ""]
    # When all are judged none is selected, so that another press changes nothing.
    found.take_verdicts(["ALL"] * 4)
    reviewer.go_on()
    assert reviewer.current is None


def test_agreement_counts_sure_verdicts(results):
    found = results(VOTES)
    assert np.isnan(agreement(found).kappa)
    for row, verdict in enumerate(("ALL", "ALL", "Hem", "unsure")):
        found.judge(row, verdict)
    # Calls: ALL, Hem, Hem. Chance agreement 4 / 9, observed 2 / 3.
    assert agreement(found).confusion.tolist() == [[1, 0], [1, 1]]
    assert agreement(found).kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    found.threshold = 0.4
    assert agreement(found).confusion.tolist() == [[1, 0], [0, 2]]
    assert agreement(found).kappa == pytest.approx(1)
    # Where all is the same, chance agrees as well.
    found.take_verdicts(["ALL", "", "", "ALL"])
    assert agreement(found).n == 2
    assert np.isnan(agreement(found).kappa)


def test_crops_are_saved_by_class_and_follow_a_changed_mind(results, tmp_path):
    found = results(VOTES, image="=week 1/a b.png")
    with pytest.raises(OutputError, match="judge some first"):
        save_crops(found, tmp_path)
    for row, verdict in enumerate(("unsure", "ALL", "", "Hem")):
        found.judge(row, verdict)
    assert save_crops(found, tmp_path) == {"ALL": 1, "Hem": 1}
    (path,) = (tmp_path / "all").iterdir()
    np.testing.assert_array_equal(np.asarray(Image.open(path)), found.rows.crops[1])
    np.testing.assert_array_equal(np.asarray(Image.open(next((tmp_path / "hem").iterdir()))), found.rows.crops[3])
    rows = pd.read_csv(next(tmp_path.glob("*_verdicts.csv")))
    assert rows[["label", "call", "verdict"]].values.tolist() == [[2, "Hem", "ALL"], [4, "ALL", "Hem"]]
    found.judge(1, "Hem")
    assert save_crops(found, tmp_path) == {"ALL": 0, "Hem": 2}
    assert (tmp_path / "hem" / path.name).exists()


def names_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.png"))


def rows_of(folder):
    (path,) = folder.glob("*_verdicts.csv")
    return pd.read_csv(path, keep_default_na=False)


def test_a_verdict_that_is_gone_leaves_no_crop(results, tmp_path):
    found = results(VOTES)
    found.take_verdicts(["ALL", "ALL", "Hem", "Hem"])
    save_crops(found, tmp_path)
    found.take_verdicts(["unsure", "", "Hem", "Hem"])
    assert save_crops(found, tmp_path) == {"ALL": 0, "Hem": 2}
    assert rows_of(tmp_path)["label"].tolist() == [3, 4]
    found.take_verdicts(["unsure", "", "", "unsure"])
    assert save_crops(found, tmp_path) == {"ALL": 0, "Hem": 0}
    assert rows_of(tmp_path).empty
    with pytest.raises(OutputError, match="judge some first"):
        save_crops(found, tmp_path)


def test_what_an_earlier_session_saved_stays_until_it_is_judged_otherwise(results, tmp_path):
    first, second = results(VOTES), results(VOTES)
    first.take_verdicts(["ALL", "ALL", "Hem", "Hem"])
    save_crops(first, tmp_path)
    # The same cells, found anew; of another bundle the table has other columns.
    second.take_verdicts(["Hem", "unsure", "", ""])
    second.rows.table["label"] += 7
    second._table = second.table.rename(columns={"p_all_one": "p_all_another"})
    assert save_crops(second, tmp_path) == {"ALL": 0, "Hem": 3}
    rows = rows_of(tmp_path)
    assert rows[["label", "verdict"]].values.tolist() == [[3, "Hem"], [4, "Hem"], [8, "Hem"]]
    assert rows["p_all_one"].astype(str).tolist() == ["0.1", "0.7", ""]
    assert sorted(rows["file"]) == names_below(tmp_path)


@pytest.mark.parametrize(
    "others",
    [
        {"plane": "1"},
        {"y_px": 2.5},  # the image of this name in another folder
        {"image": "Drawn.png"},
    ],
)
def test_crops_of_other_planes_and_images_stay(results, tmp_path, others):
    one, other = results(VOTES), results(VOTES, **others)
    for found in (one, other):
        found.take_verdicts(["ALL"] * len(found))
        counts = save_crops(found, tmp_path)
    assert counts == {"ALL": 8, "Hem": 0}
    rows = pd.concat([pd.read_csv(path) for path in tmp_path.glob("*_verdicts.csv")])
    assert sorted(rows["file"]) == names_below(tmp_path)
    # Nothing of the other is touched where a mind is changed.
    other.take_verdicts(["Hem", "unsure", "", "ALL"])
    assert save_crops(other, tmp_path) == {"ALL": 5, "Hem": 1}


@pytest.mark.parametrize("names", [("血液1.png", "細胞1.png"), ("a b.png", "a-b.png")])
def test_images_whose_names_are_alike_on_disk_are_kept_apart(results, tmp_path, names):
    for name, verdict in zip(names, ("ALL", "Hem"), strict=True):
        found = results(VOTES, image=name)
        found.take_verdicts([verdict] * len(found))
        counts = save_crops(found, tmp_path)
    assert counts == {"ALL": 4, "Hem": 4}
    assert set(rows_of(tmp_path)["image"]) == set(names)
    assert all(name.isascii() and " " not in name for name in names_below(tmp_path))


def test_a_table_of_verdicts_that_cannot_be_read_is_not_overwritten(results, tmp_path):
    found = results(VOTES)
    found.judge(0, "ALL")
    save_crops(found, tmp_path)
    (path,) = tmp_path.glob("*_verdicts.csv")
    path.write_bytes("größe".encode("cp1252"))
    with pytest.raises(OutputError, match=r"verdicts\.csv can't be added to"):
        save_crops(found, tmp_path)
    assert path.read_bytes() == "größe".encode("cp1252")


def test_summary_counts_and_bounds_the_fraction(results):
    found = summarise(results(VOTES, flags=["", "blurred", "blurred;touches_border", ""]))
    assert found.calls == {"ALL": 2, "Hem": 2, "uncertain": 0}
    assert found.fraction_all == 0.5
    expected = binomtest(2, 4).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.histogram.sum() == 4
    assert np.flatnonzero(summarise(results([[0.02] * 3, [0.5] * 3])).histogram).tolist() == [0, 10]
    assert found.flags == {"blurred": 2, "touches_border": 1}
    assert summarise(results([[0.02] * 3])).sentence.startswith("1 cell: 0 ALL, 1 Hem; 0.0 % ALL")
    assert found.sentence == "4 cells: 2 ALL, 2 Hem; 50.0 % ALL (95 % interval 15.0 to 85.0 %)"
    assert found.domain_note == ""


def test_summary_says_what_cannot_be_judged(results):
    found = summarise(results(VOTES, flags=["", "out_of_domain", "blurred;out_of_domain", ""]))
    assert found.domain_note == ("out_of_domain: 2 of 4 cells, unlike those of the training; don't trust their calls")
