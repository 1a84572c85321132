from napari_all_detect._napari.run.progress import CellCount, RunClock


def test_the_time_left_is_told_once_it_can_be_known():
    now = [100.0]
    clock = RunClock(lambda: now[0])
    assert clock.text(0, 600) == "0 of 600 cells"
    now[0] += 1
    assert clock.text(10, 600) == "10 of 600 cells"
    now[0] += 9
    assert clock.text(100, 600) == "100 of 600 cells, about 50 s left"
    assert clock.text(100, 6000) == "100 of 6000 cells, about 10 min left"
    assert clock.text(100, 600000) == "100 of 600000 cells, about 16.7 h left"
    assert clock.text(600, 600) == "600 of 600 cells"
    assert clock.text(0, 1) == "0 of 1 cell"


def test_planes_to_come_are_taken_to_hold_as_many_cells_as_those_so_far():
    count = CellCount(4)
    assert count.total == 0
    count.begin_plane(10)
    count.done = 10
    assert count.text() == "10 of 40 cells"
    count.begin_plane(0)
    assert count.total == 20
    for cells in (3, 2):
        count.begin_plane(cells)
    assert count.total == 15
