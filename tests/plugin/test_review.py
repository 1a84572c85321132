import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest

from napari_all_detect._napari.review import Reviewer, agreement, save_crops
from napari_all_detect._napari.summary import summarise
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
    assert reviewer.current == 3


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


def test_crops_are_saved_by_class_and_follow_a_changed_mind(results, tmp_path):
    found = results(VOTES, image="=week 1/a b.png")
    with pytest.raises(OutputError, match="judge some first"):
        save_crops(found, tmp_path)
    for row, verdict in enumerate(("ALL", "Hem", "unsure")):
        found.judge(row, verdict)
    assert save_crops(found, tmp_path) == {"ALL": 1, "Hem": 1}
    (path,) = (tmp_path / "all").iterdir()
    np.testing.assert_array_equal(np.asarray(Image.open(path)), found.rows.crops[0])
    rows = pd.read_csv(next(tmp_path.glob("*_verdicts.csv")))
    assert rows[["label", "call", "verdict"]].values.tolist() == [[1, "ALL", "ALL"], [2, "Hem", "Hem"]]
    found.judge(0, "Hem")
    assert save_crops(found, tmp_path) == {"ALL": 0, "Hem": 2}
    assert (tmp_path / "hem" / path.name).exists()


def test_summary_counts_and_bounds_the_fraction(results):
    found = summarise(results(VOTES, flags=["", "blurred", "blurred;touches_border", ""]))
    assert found.calls == {"ALL": 2, "Hem": 2, "uncertain": 0}
    assert found.fraction_all == 0.5
    expected = binomtest(2, 4).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.histogram.sum() == 4
    assert found.flags == {"blurred": 2, "touches_border": 1}
    assert found.sentence == "4 cells: 2 ALL, 2 Hem; 50.0 % ALL (95 % interval 15.0 to 85.0 %)"
    assert found.domain_note == ""


def test_summary_says_what_cannot_be_judged(results):
    found = summarise(results(VOTES, flags=["", "out_of_domain", "blurred;out_of_domain", ""]))
    assert found.domain_note == ("out_of_domain: 2 of 4 cells, unlike those of the training; don't trust their calls")
