import numpy as np
import pytest

from napari_all_detect._napari.layers.compact import compact


@pytest.mark.parametrize(("other", "dtype"), [(0, np.uint16), (32_767, np.uint16), (32_768, np.int32), (-1, np.int32)])
def test_labels_have_16_bits_as_long_as_half_of_their_numbers_are_free(other, dtype):
    labels = np.array([[0, other]])
    np.testing.assert_array_equal(compact(labels), labels)
    assert compact(labels).dtype == dtype
