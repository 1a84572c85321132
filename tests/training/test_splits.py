import numpy as np
import pytest
from numpy.typing import NDArray

from all_detect_training.splits import refuse_shared_subjects, split_by_subject, split_contiguous, split_folds
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


def listed(n_all: int, n_hem: int) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Return whose each image is, of subjects with 1 to 12 images each, and whether it is ALL."""
    names = [f"{name}{i}" for name, n in (("a", n_all), ("h", n_hem)) for i in range(n)]
    subjects = np.repeat(names, np.random.default_rng(3).integers(1, 13, len(names)))
    return subjects, np.char.startswith(subjects, "a")


def test_subjects_are_chosen_so_that_images_come_in_the_numbers_wanted() -> None:
    subjects, is_all = listed(12, 9)
    some = {"ALL": ["a0", "a4", "a7"], "Hem": ["h1", "h2", "h8"]}
    n_subjects = {"ALL": (9, 3), "Hem": (6, 3)}
    of_class = {"ALL": is_all, "Hem": ~is_all}
    wanted = {name: int(np.isin(subjects, some[name]).sum()) for name in some}
    n_images = {name: (int(of_class[name].sum()) - n, n) for name, n in wanted.items()}
    splits = [split_by_subject(subjects, is_all, n_subjects, n_images, seed) for seed in (0, 0, 1, 2, 3)]
    for split in splits:
        for name, there in of_class.items():
            validation = there & (split == "validation")
            assert (len(set(subjects[validation])), validation.sum()) == (3, wanted[name])
            assert not set(subjects[validation]) & set(subjects[split == "train"])
    assert (splits[0] == splits[1]).all()
    assert len({tuple(split) for split in splits}) > 2


@pytest.mark.parametrize("n_all", [11, 13])
def test_other_numbers_of_subjects_are_refused(n_all: int) -> None:
    n_subjects = {"ALL": (9, 3), "Hem": (6, 3)}
    with pytest.raises(InputError, match=f"{n_all} ALL subjects; expected 9 that train and 3 that validate"):
        split_by_subject(*listed(n_all, 9), n_subjects, {"ALL": (50, 15), "Hem": (30, 15)}, 0)


def test_folds_depend_on_the_seed_alone() -> None:
    first, same, *others = (tuple(split_folds(*listed(12, 9), 3, 0, seed)) for seed in (1, 1, 2, 3, 4))
    assert first == same
    assert set(others) != {first}


def test_subjects_on_two_sides_are_named_and_unknown_ones_are_not_the_same() -> None:
    refuse_shared_subjects(["train", "test"], ["", ""])
    for n, more in ((5, ""), (6, " and 1 more")):
        names = [f"s{i}" for i in range(n)]
        with pytest.raises(InputError, match=f"two sides of the split: s0, s1, s2, s3, s4{more};"):
            refuse_shared_subjects(["train"] * n + ["test"] * n, names * 2)
