"""What is asked for, found out and told without a network."""

from types import SimpleNamespace

import numpy as np
import pytest
from napari.layers import Image

from napari_all_detect import ScoreParams
from napari_all_detect._napari.process.messages import Found
from napari_all_detect._napari.run.controller import Controller
from napari_all_detect._napari.run.task import Task, tell_no_cell
from napari_all_detect.errors import InputError
from napari_all_detect.params import ReadParams, SegmentationParams

CLASSICAL = ScoreParams(segmentation=SegmentationParams(method="classical"))


def coarser_in_depth(channels_first):
    """Return a pyramid of six planes, each with its number as its values, and of three at the next level."""
    depth = np.arange(6, dtype=np.uint8)[:, None, None, None]
    finest = np.broadcast_to(depth, (6, 64, 64, 3))
    levels = [finest, finest[::2, ::2, ::2]]
    if channels_first:
        levels = [np.moveaxis(level, -1, 0) for level in levels]
    return Image(levels, multiscale=True, rgb=not channels_first)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(("level", "expected"), [(0, [0, 1, 2, 3, 4, 5]), (1, [0, 0, 2, 2, 4, 4])])
def test_the_plane_is_the_one_that_is_shown_at_a_level_with_fewer_planes_too(channels_first, level, expected):
    image, found = coarser_in_depth(channels_first), []
    for shown in range(6):
        task = Task(image, None, ScoreParams(reading=ReadParams(level)), at=(shown,))
        (plane,) = task.planes(task.layout())
        found.append(int(np.asarray(plane.pixels).max()))
    assert found == expected


@pytest.mark.parametrize(
    ("labels", "at", "told"),
    [
        (None, None, "No white cell in 'smear'"),
        ("mine", None, "labels 'mine' hold no cell; draw some with the brush, or choose 'Find cells'"),
        ("mine", (2,), "labels 'mine' hold no cell on the plane that is scored; draw some"),
    ],
)
def test_without_a_cell_it_is_told_whether_the_image_or_the_labels_have_none(notices, labels, at, told):
    given = None if labels is None else SimpleNamespace(name=labels)
    text = tell_no_cell(Task(SimpleNamespace(name="smear"), given, ScoreParams(), at))
    assert told in notices[0]
    assert text == ("No white cell found" if labels is None else "The labels hold no cell")


def test_cancelled_is_what_lacks_something(viewer, loop):
    found = Found(np.pad(np.ones((8, 8), np.int32), ((0, 24), (0, 24))), None)
    process = SimpleNamespace(running=True, number=lambda: 1, cancel=lambda n: None, stop=lambda n: None)
    controller = Controller(viewer, process, loop.call_soon)
    process.call = lambda *_, **__: found
    image = viewer.add_image(np.full((2, 32, 32, 3), 200, np.uint8))
    controller.segment(Task(image, None, CLASSICAL))
    assert controller.wait(60)
    controller.cancel()  # when all is done
    loop.run_until(lambda: not controller.state.busy)
    assert controller.state.text == "2 cells found"

    answers = [InputError("too dark"), found]

    def next_answer(*_, **__):
        answer = answers.pop(0)
        if isinstance(answer, InputError):
            raise answer
        return answer

    process.call = next_answer
    controller.segment(Task(image, None, CLASSICAL))
    assert controller.wait(60)
    controller.cancel()  # when all is done, or has failed
    loop.run_until(lambda: not controller.state.busy)
    assert controller.state.text == "1 cell found. Failed: plane p0: too dark"

    def answer(*_, **__):
        controller.cancel()
        return found

    process.call = answer
    controller.segment(Task(image, None, CLASSICAL))
    loop.run_until(lambda: not controller.state.busy)
    assert controller.state.text == "Cancelled. 1 cell found"
    controller.close()
