import numpy as np
import pandas as pd
import pytest

from napari_all_detect._napari.cells.colours import (
    COLOURINGS,
    FIRST_LEVEL,
    N_LEVELS,
    ScoreColormap,
    colour_levels,
    palette,
    ramp,
    shares,
    ticks,
)

TABLE = pd.DataFrame(
    {
        "p_all": np.array([0.0, 0.5, 1.0], np.float32),
        "p_hem": np.array([1.0, 0.5, 0.0], np.float32),
        "call": ["Hem", "uncertain", "ALL"],
        "spread": np.array([0.0, 0.25, 0.5], np.float32),
    }
)


@pytest.mark.parametrize("colouring", COLOURINGS)
def test_every_colouring_runs_over_its_bar_in_a_byte(colouring):
    assert sorted(shares(TABLE, colouring).tolist()) == [0.0, 0.5, 1.0]
    assert len(palette(colouring)) <= 256
    assert [share for share, _ in ticks(colouring)] == [0, 0.5, 1]


def test_all_is_vermilion_and_hem_blue_whichever_is_asked_for():
    vermilion, blue = np.array([213, 94, 0]) / 255, np.array([0, 114, 178]) / 255
    for colouring, value in (("P(ALL)", "p_all"), ("P(Hem)", "p_hem"), ("call", "call")):
        of = dict(
            zip(
                ("Hem", "uncertain", "ALL"),
                ramp(colouring)[np.rint(shares(TABLE, colouring) * (N_LEVELS - 1)).astype(int)],
                strict=True,
            )
        )
        np.testing.assert_allclose(of["ALL"][:3], vermilion, atol=1e-3, err_msg=value)
        np.testing.assert_allclose(of["Hem"][:3], blue, atol=1e-3, err_msg=value)


def test_colours_of_gapped_large_selected_and_unknown_labels():
    numbers = np.array([2, 70_000, 90_000])
    colours = palette("P(ALL)")
    colormap = ScoreColormap(colour_levels(numbers, np.array([0.0, 1.0, np.nan]), np.array([2])), colours)
    labels = np.array([[0, 1, 2], [70_000, 90_000, 200_000]], np.int32)
    mapped = colormap.map(labels)
    np.testing.assert_array_equal(mapped[0, 0], 0)
    np.testing.assert_array_equal(mapped[0, 2], colours[2])
    np.testing.assert_array_equal(mapped[1, 0], colours[FIRST_LEVEL + N_LEVELS - 1])
    for unscored in (mapped[0, 1], mapped[1, 1], mapped[1, 2]):
        np.testing.assert_array_equal(unscored, colours[0])
    texture = colormap._data_to_texture(labels)
    assert texture.dtype == np.uint8
    _, drawn = colormap._values_mapping_to_minimum_values_set()
    np.testing.assert_array_equal([drawn[int(level)] for level in texture.ravel()], mapped.reshape(-1, 4))


def test_only_the_selected_label_can_be_shown():
    colormap = ScoreColormap(colour_levels(np.array([1, 2]), np.array([0.0, 1.0]), np.zeros(0, int)), palette("P(ALL)"))
    colormap.use_selection, colormap.selection = True, 2
    mapped = colormap.map(np.array([0, 1, 2]))
    assert mapped[:, 3].tolist() == [0, 0, 1]
    _, drawn = colormap._values_mapping_to_minimum_values_set()
    np.testing.assert_array_equal([drawn[0], drawn[1]], mapped[1:])
    assert colormap._data_to_texture(np.array([0, 1, 2], np.int32)).tolist() == [0, 0, 1]
    # Few enough numbers for napari to have a colour for each.
    small = colormap._data_to_texture(np.array([0, 1, 2], np.int16))
    assert (small.tolist(), small.dtype) == ([0, 1, 2], np.uint16)
