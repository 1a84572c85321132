from napari_all_detect._napari.progress import RunClock


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
