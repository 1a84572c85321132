import numpy as np
import pandas as pd
import pytest

from napari_all_detect._napari.cells.gallery import ORDERS, gallery_order, page_of
from napari_all_detect._napari.cells.row_order import RowFilter, ordered_rows

TABLE = pd.DataFrame(
    {
        "p_all": np.array([0.2, 0.9, 0.5, 0.9], np.float32),
        "call": ["Hem", "ALL", "uncertain", "ALL"],
        "flags": ["", "blurred", "touches_border;blurred", ""],
        "nc_ratio": np.array([np.nan, 2.0, 1.0, 3.0], np.float32),
    }
)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (RowFilter(), [0, 1, 2, 3]),
        (RowFilter(call="ALL"), [1, 3]),
        (RowFilter(flags="none"), [0, 3]),
        (RowFilter(flags="flagged"), [1, 2]),
        (RowFilter(flags="touches_border"), [2]),
        (RowFilter(least_p=0.5, most_p=0.9), [1, 2, 3]),
        (RowFilter(call="ALL", flags="blurred", least_p=0.95), []),
    ],
)
def test_filters(keep, expected):
    assert ordered_rows(TABLE, keep).tolist() == expected


def test_sorting_is_stable_and_puts_what_is_empty_last():
    assert ordered_rows(TABLE, RowFilter(), "p_all").tolist() == [0, 2, 1, 3]
    assert ordered_rows(TABLE, RowFilter(), "p_all", descending=True).tolist() == [1, 3, 2, 0]
    for descending, expected in ((False, [2, 1, 3, 0]), (True, [3, 1, 2, 0])):
        assert ordered_rows(TABLE, RowFilter(), "nc_ratio", descending).tolist() == expected


def test_gallery_orders(results):
    found = results([[0.9, 0.9, 0.9], [0.1, 0.1, 0.1], [0.2, 0.5, 0.9]], domain_distance=[1.0, 3.0, np.nan])
    orders = {order: gallery_order(found, order).tolist() for order in ORDERS}
    assert list(orders.values()) == [[0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 0, 1], [1, 0, 2]]
    assert gallery_order(found, ORDERS[0], RowFilter(call="ALL")).tolist() == [0, 2]


def test_pages():
    rows = np.arange(205)
    assert page_of(rows, 1).rows.tolist() == list(range(100, 200))
    last = page_of(rows, 9)
    assert (last.number, last.count, last.rows.tolist()) == (2, 3, [200, 201, 202, 203, 204])
    assert page_of(rows[:0], -1).count == 1
