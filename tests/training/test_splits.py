import numpy as np
import pytest

from all_detect_training.splits import split_contiguous
from napari_all_detect.errors import InputError


def sides(images: list[str], train: float = 0.6, validation: float = 0.15) -> dict[str, list[str]]:
    split = split_contiguous(np.array(images), train, validation)
    return {side: [i for i, s in zip(images, split, strict=True) if s == side] for side in set(split.tolist())}


def test_blocks_are_contiguous_in_the_order_of_the_numbers() -> None:
    images = [f"a/im-{i}.png" for i in range(1, 21)]
    shuffled = np.random.default_rng(0).permutation(images).tolist()
    found = sides(shuffled)
    assert set(found["train"]) == set(images[:12])
    assert set(found["validation"]) == set(images[12:15])
    assert set(found["test"]) == set(images[15:])


def test_all_cells_of_an_image_are_on_one_side() -> None:
    images = np.repeat([f"a/{i}" for i in range(10)], 7)
    split = split_contiguous(images, 0.6, 0.2)
    for image in np.unique(images):
        assert len(set(split[images == image])) == 1


def test_shares_count_images_not_cells() -> None:
    images = ["a/1"] * 100 + [f"a/{i}" for i in range(2, 11)]
    found = sides(images, 0.5, 0.2)
    assert {side: len(set(names)) for side, names in found.items()} == {"train": 5, "validation": 2, "test": 3}


def test_every_class_folder_is_split_for_itself() -> None:
    images = [f"{sub}/{i}" for sub, n in (("a", 10), ("b", 20)) for i in range(n)]
    found = sides(images, 0.5, 0.2)
    assert sum(name.startswith("a/") for name in found["test"]) == 3
    assert sum(name.startswith("b/") for name in found["test"]) == 6


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_folder_with_too_few_images_is_refused(n: int) -> None:
    images = np.array([f"many/{i}" for i in range(20)] + [f"few/{i}" for i in range(n)])
    with pytest.raises(InputError, match=f"few: {n} images are too few"):
        split_contiguous(images, 0.6, 0.15)
