import logging

import pytest

from all_detect_training import telling
from all_detect_training.telling import Telling


def test_lines_become_rarer_and_say_how_long_it_will_take(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(telling.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO):
        told = Telling(logging.getLogger("all_detect_training"), "reading images", 100)
        for done in range(1, 101):
            now += 1
            told.reach(done)
    assert [record.getMessage() for record in caplog.records] == [
        "reading images: 20 of 100, about 0:01:20 left",
        "reading images: 30 of 100, about 0:01:10 left",
        "reading images: 45 of 100, about 0:00:55 left",
        "reading images: 68 of 100, about 0:00:32 left",
    ]


def test_what_is_done_soon_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        told = Telling(logging.getLogger("all_detect_training"), "reading images", 2)
        for done in range(3):
            told.reach(done)
    assert not caplog.records
