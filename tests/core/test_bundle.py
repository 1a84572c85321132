"""Bundles are built here with made-up weights: the store checks digests and never opens a weights file."""

import hashlib
import json
import os
import re
import shutil
import stat
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from napari_all_detect.bundle import (
    AnyBundle,
    Bundle,
    Manifest,
    SegmenterManifest,
    archive,
    install_bundle,
    list_bundles,
    load_any_bundle,
    load_bundle,
    load_segmenter,
    store,
    verified,
)
from napari_all_detect.errors import BundleError

WEIGHTS = {"vgg16": b"first weights", "mobilenet": b"second weights"}
CARD = "# Tiny\n\nKärtchen\n"


def facts(name: str = "tiny", version: str = "1.0", **changes: Any) -> dict[str, Any]:
    validation = {"accuracy": 0.9, "auc": 0.95, "f1": 0.9, "kappa": 0.8, "n": 100}
    members = [
        {
            "name": member,
            "architecture": member,
            "cut": None,
            "input_size": 96,
            "preprocessing": "tf",
            "weights_file": f"members/{member}.weights.h5",
            "sha256": hashlib.sha256(data).hexdigest(),
            "temperature": 1.5,
            "validation": validation,
        }
        for member, data in WEIGHTS.items()
    ]
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "description": "For tests",
        "license": "CC0-1.0",
        "citation": "none",
        "created": "2025-01-02",
        "research_use_only": True,
        "classes": ["Hem", "ALL"],
        "crop": {"size": 96, "background": "black", "pixel_size_um": None, "cell_diameter_px": 60.0},
        "members": members,
        "ensemble": {"weighting": "kappa", "threshold": 0.5, "conformal": None},
        "domain": None,
        "training": {"seed": 1},
        "metrics": {},
    } | changes


DOMAIN = {
    "mean": [100.0] * 9,
    "covariance": [[9.0 if i == j else 0.5 for j in range(9)] for i in range(9)],
    "threshold": 2.0,
    "false_alarm_rate": 0.02,
    "least_sharpness": 0.4,
    "n": 50,
}
CONFORMAL = {
    "error_rate_all": 0.05,
    "error_rate_hem": 0.1,
    "n_all": 60,
    "n_hem": 70,
    "rates": [0.05, 0.1],
    "bounds": {"f1": {"least_all": [0.2, 0.3], "most_hem": [0.8, 0.7]}},
}


def write_facts(folder: Path, data: dict[str, Any]) -> None:
    (folder / "bundle.json").write_text(json.dumps(data), encoding="utf-8")


def make(folder: Path, **changes: Any) -> Path:
    (folder / "members").mkdir(parents=True)
    for member, data in WEIGHTS.items():
        (folder / f"members/{member}.weights.h5").write_bytes(data)
    (folder / "MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    write_facts(folder, facts(**changes))
    return folder


def zip_of(folder: Path, path: Path, top: str = "", extra: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                zipped.write(file, f"{top}{file.relative_to(folder).as_posix()}")
        for name, data in (extra or {}).items():
            zipped.writestr(name, data)
    return path


def everything_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name not in ("bundles", "cache")]


def refusal(source: str | Path, open_bundle: Callable[[str | Path], AnyBundle] = load_bundle) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(source)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALL_DETECT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def builtin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "builtin_root", lambda: tmp_path / "builtin")
    return make(tmp_path / "builtin/lite", name="lite").parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(tmp_path / "somewhere/anything")


# --- What is loaded ---------------------------------------------------------------------------------------------


def test_a_folder_is_loaded_with_its_facts(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.label == "tiny-1.0"
    assert bundle.card == CARD
    assert bundle.folder == folder.resolve()
    assert bundle.digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert [bundle.weights(member).read_bytes() for member in bundle.manifest.members] == list(WEIGHTS.values())
    assert bundle.manifest == Manifest.model_validate(facts())


@pytest.mark.parametrize("top", ["", "tiny-1.0/"])
def test_a_zip_equals_its_folder(folder: Path, tmp_path: Path, home: Path, top: str) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip", top, extra={f"__MACOSX/{top}._bundle.json": b"finder"})
    bundle = load_bundle(path)
    assert bundle.manifest == load_bundle(folder).manifest
    assert bundle.digest == load_bundle(folder).digest
    assert bundle.folder == home / "cache" / hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_what_a_bundle_names_is_unpacked(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip", "tiny/", {"tiny/members/pad": bytes(100), "tiny/MODEL_CARD.md/x": b""})
    unpacked = load_bundle(path).folder
    found = {file.relative_to(unpacked).as_posix() for file in unpacked.rglob("*")}
    assert found == {"bundle.json", "MODEL_CARD.md", "members", *(f"members/{name}.weights.h5" for name in WEIGHTS)}


def test_a_zip_is_unpacked_once(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip")
    mark = load_bundle(path).folder / "mark"
    mark.touch()
    load_bundle(str(path))
    assert mark.exists()


def test_a_damaged_cache_is_unpacked_again(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip")
    first = load_bundle(path)
    weights = first.weights(first.manifest.members[0])
    weights.write_bytes(b"rotten")
    load_bundle(path)
    assert weights.read_bytes() == WEIGHTS["vgg16"]


def test_a_changed_zip_is_another_bundle(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip")
    assert load_bundle(path).label == "tiny-1.0"
    write_facts(folder, facts(version="2.0"))
    assert load_bundle(zip_of(folder, path)).label == "tiny-2.0"


def test_workers_that_unpack_the_same_zip_at_once_all_get_it(
    folder: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip")
    all_unpacked = threading.Barrier(3, timeout=60)
    publish = store.publish

    def publish_together(source: Path, target: Path) -> None:
        all_unpacked.wait()
        publish(source, target)

    monkeypatch.setattr(store, "publish", publish_together)
    with ThreadPoolExecutor(3) as workers:
        labels = [bundle.label for bundle in workers.map(load_bundle, [path] * 3)]
    assert labels == ["tiny-1.0"] * 3
    assert len(list((home / "cache").iterdir())) == 1


# --- Names ------------------------------------------------------------------------------------------------------


def test_lite_is_the_default() -> None:
    assert load_bundle().label == "lite-1.0"


def test_the_package_wins_over_the_user_and_over_the_working_directory(
    home: Path, builtin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(home / "bundles/lite", name="lite", version="user")
    make(tmp_path / "work/lite", name="lite", version="work")
    monkeypatch.chdir(tmp_path / "work")
    assert load_bundle("lite").label == "lite-1.0"
    assert load_bundle("./lite").label == "lite-work"
    assert load_bundle(Path("lite")).label == "lite-work"
    shutil.rmtree(builtin / "lite")
    assert load_bundle("lite").label == "lite-user"
    shutil.rmtree(home / "bundles/lite")
    assert load_bundle("lite").label == "lite-work"
    assert load_bundle("lite").folder.is_absolute()


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert load_bundle("~/anything").label == "tiny-1.0"


@pytest.mark.parametrize("name", ["nonsense", "", "li\0te", "x" * 200])
def test_an_unknown_name_lists_what_exists(name: str, home: Path) -> None:
    make(home / "bundles/mine", name="mine")
    message = refusal(name)
    assert "lite, mine" in message
    assert "all-detect bundles install" in message


@pytest.mark.parametrize("path", ["no/such/folder", "such.zip", "SUCH.ZIP", Path("such")])
def test_a_path_that_does_not_exist(path: str | Path) -> None:
    assert refusal(path).startswith(f"{path}: no such file")
    assert refusal(path, install_bundle).startswith(f"{path}: no such file")


def test_a_url_must_be_installed_first() -> None:
    assert "all-detect bundles install https://example.org/b.zip" in refusal("https://example.org/b.zip")


def test_a_folder_must_bear_its_bundles_name(home: Path) -> None:
    make(home / "bundles/other", name="tiny")
    assert "holds the bundle 'tiny'" in refusal("other")


def test_the_users_folder_is_the_platforms_without_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_all_detect.bundle import places

    monkeypatch.setenv("ALL_DETECT_HOME", "")
    monkeypatch.setattr(places, "user_data_path", lambda app: tmp_path / "data" / app)
    monkeypatch.setattr(places, "user_cache_path", lambda app: tmp_path / "cached" / app)
    assert places.user_root() == tmp_path / "data/napari-all-detect/bundles"
    assert places.cache_root() == tmp_path / "cached/napari-all-detect"
    assert places.builtin_root() == Path(places.__file__).parent / "builtin"


# --- What is refused in a folder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bundle.json", "MODEL_CARD.md", "members/vgg16.weights.h5"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert refusal(folder).startswith(f"{folder}: no file {name};")
    (folder / name).mkdir()
    assert refusal(folder).startswith(f"{folder}: no file {name};")


def test_a_digest_that_does_not_match(folder: Path) -> None:
    (folder / "members/mobilenet.weights.h5").write_bytes(b"second Weights")
    message = refusal(folder)
    assert "members/mobilenet.weights.h5 has SHA-256" in message
    for data in (b"second weights", b"second Weights"):
        assert hashlib.sha256(data).hexdigest() in message


@pytest.mark.parametrize("name", ["bundle.json", "MODEL_CARD.md", "members/vgg16.weights.h5", "members"])
def test_a_link_that_leaves_the_folder(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert "is a link that leaves the folder" in refusal(folder)


def test_a_link_within_the_folder_is_fine(folder: Path) -> None:
    (folder / "members/vgg16.weights.h5").rename(folder / "members/same.weights.h5")
    (folder / "members/vgg16.weights.h5").symlink_to("same.weights.h5")
    assert load_bundle(folder).label == "tiny-1.0"


def test_a_card_that_is_not_text(folder: Path) -> None:
    (folder / "MODEL_CARD.md").write_bytes(b"\xff\xfe")
    assert "MODEL_CARD.md is not UTF-8" in refusal(folder)


@pytest.mark.parametrize("name", ["bundle.json", "MODEL_CARD.md"])
def test_a_huge_text_file_is_not_read(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / name).open("a") as file:
        file.write(" " * 5000)
    load_bundle(folder)
    monkeypatch.setitem(verified.MAX_TEXT_BYTES, name, 5000)
    assert f"{name} has more than the 5000 bytes" in refusal(folder)


def test_a_card_may_be_larger_than_the_facts(folder: Path) -> None:
    for name in ("MODEL_CARD.md", "bundle.json"):
        load_bundle(folder)
        with (folder / name).open("a") as file:
            file.write(" " * 2**22)
    assert "bundle.json has more than the 4194304 bytes" in refusal(folder)


def test_a_path_that_the_system_refuses() -> None:
    assert "can't be read (File name too long)" in refusal("x" * 5000)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(folder: Path) -> None:
    (folder / "members/vgg16.weights.h5").chmod(0)
    assert "can't be read (Permission denied)" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"nonsense\nnonsense"])
def test_json_that_is_not_a_manifest(folder: Path, content: bytes) -> None:
    (folder / "bundle.json").write_bytes(content)
    assert refusal(folder).startswith(f"{folder}: bundle.json: ")


def with_member(**changes: Any) -> dict[str, Any]:
    first, second = facts()["members"]
    return {"members": [first | changes, second]}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema_version": 2, "novelty": 1, "members": []}, "schema_version is 2, expected 1; update"),
        ({"novelty": 1}, "novelty: unknown key"),
        ({"new\nline": 1}, "'new\\nline': unknown key"),
        ({"crop": facts()["crop"] | {"novelty": 1}}, "crop.novelty: unknown key"),
        ({"crop": facts()["crop"] | {"cell_diameter_px": 0}}, "crop.cell_diameter_px: Input should be greater than 0"),
        ({"members": []}, "members: "),
        ({"members": facts()["members"] * 17}, "members: Tuple should have at most 32 items after validation, not 34"),
        ({"members": facts()["members"][:1] * 2}, "members share a name: vgg16, vgg16"),
        ({"classes": ["ALL", "Hem"]}, "classes[0]: Input should be 'Hem', not 'ALL'"),
        ({"created": "yesterday"}, "created: "),
        ({"name": "../evil"}, "name: "),
        ({"name": "evil.zip"}, "name: 'evil.zip' can't name a folder"),
        ({"name": "evil."}, "name: 'evil.' can't name a folder"),
        ({"version": "1\n=cmd()"}, "version: "),
        (with_member(sha256="abc"), "members[0].sha256: "),
        (with_member(architecture="resnet50"), "members[0].architecture: 'resnet50' is not an architecture"),
        (with_member(input_size=70, architecture="xception"), "members[0]: input_size is 70; xception needs 71"),
        (with_member(weights_file="members/x.pkl"), "members[0].weights_file: 'members/x.pkl' is not a weights file"),
        (with_member(code="import os"), "members[0].code: unknown key"),
        ({"domain": DOMAIN | {"mean": [1.0] * 8}}, "domain: mean and covariance are not those of 9 colour features"),
        ({"domain": DOMAIN | {"mean": [1.0] * 6}}, "domain: mean and covariance are not those of 9 colour features"),
        ({"domain": DOMAIN | {"novelty": 1}}, "domain.novelty: unknown key"),
        ({"domain": DOMAIN | {"threshold": 0}}, "domain.threshold: Input should be greater than 0"),
        ({"domain": DOMAIN | {"covariance": [[1.0] * 9] * 9}}, "domain: covariance is not symmetric with positive"),
        ({"ensemble": {"temperatures": {"mood": 1.0}}}, "ensemble.temperatures"),
        ({"ensemble": {"temperatures": {"f1": 1e-320}}}, "ensemble.temperatures.f1: Input should be greater than or e"),
        ({"ensemble": {"temperatures": {"f1": 1e300}}}, "ensemble.temperatures.f1: Input should be less than or equal"),
        ({"ensemble": {"conformal": CONFORMAL | {"rates": [0.1, 0.05]}}}, "ensemble.conformal: rates are not in asc"),
        ({"ensemble": {"conformal": CONFORMAL | {"rates": [0.1]}}}, "ensemble.conformal: bounds of f1 are not one for"),
        ({"ensemble": {"conformal": CONFORMAL | {"n_all": 0}}}, "ensemble.conformal.n_all: Input should be greater"),
        (with_member(temperature=0), "members[0].temperature: Input should be greater than or equal to 0.01, not 0"),
        (with_member(temperature=1e-300), "members[0].temperature: Input should be greater than or equal to 0.01"),
        (with_member(temperature=1e300), "members[0].temperature: Input should be less than or equal to 100, not 1e"),
    ],
)
def test_facts_that_break_the_schema(folder: Path, changes: dict[str, Any], expected: str) -> None:
    write_facts(folder, facts(**changes))
    assert refusal(folder).startswith(f"{folder}: bundle.json: {expected}")


@pytest.mark.parametrize("key", sorted(set(facts()) - {"domain"}))
def test_a_key_that_is_missing(folder: Path, key: str) -> None:
    data = facts()
    del data[key]
    write_facts(folder, data)
    assert f"bundle.json: {key}: Field required" in refusal(folder)


def test_what_says_how_far_scores_can_be_trusted_is_optional(folder: Path) -> None:
    bare = facts()
    del bare["domain"], bare["ensemble"]["conformal"]
    write_facts(folder, bare)
    manifest = load_bundle(folder).manifest
    assert (manifest.domain, manifest.ensemble.conformal, manifest.ensemble.temperatures) == (None, None, {})
    write_facts(folder, bare | {"domain": DOMAIN, "ensemble": {"temperatures": {"f1": 2.0}, "conformal": CONFORMAL}})
    manifest = load_bundle(folder).manifest
    assert json.loads(manifest.domain.model_dump_json()) == DOMAIN
    assert json.loads(manifest.ensemble.conformal.model_dump_json()) == CONFORMAL


@pytest.mark.parametrize("temperature", [0.1, 10.0])
def test_what_training_fits_at_its_limits_is_a_temperature(folder: Path, temperature: float) -> None:
    ensemble = {"temperatures": {"kappa": temperature}}
    write_facts(folder, facts(**with_member(temperature=temperature), ensemble=ensemble))
    manifest = load_bundle(folder).manifest
    assert manifest.members[0].temperature == manifest.ensemble.temperatures["kappa"] == temperature


def test_many_faults_are_counted(folder: Path) -> None:
    write_facts(folder, {"schema_version": 1})
    assert "name: Field required; version: Field required; description: Field required (and 10 more)" in refusal(folder)


@pytest.mark.parametrize(
    "path",
    [
        "../outside.weights.h5",
        "members/../../outside.weights.h5",
        "/etc/x.weights.h5",
        "C:\\x.weights.h5",
        "..\\outside.weights.h5",
        "C:x.weights.h5",
        "a\0.weights.h5",
        "",
        ".",
    ],
)
def test_a_weights_path_that_leaves_the_folder(folder: Path, path: str) -> None:
    (folder.parent / "outside.weights.h5").write_bytes(WEIGHTS["vgg16"])
    write_facts(folder, facts(**with_member(weights_file=path)))
    assert "leaves the bundle's folder" in refusal(folder)


# --- What is refused in a zip -------------------------------------------------------------------------------------


@pytest.mark.parametrize("open_bundle", [load_bundle, install_bundle])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil", "C:evil"])
def test_zip_slip(
    folder: Path, tmp_path: Path, home: Path, name: str, open_bundle: Callable[[str | Path], Bundle]
) -> None:
    path = zip_of(folder, tmp_path / "evil.zip", extra={name: b"evil"})
    before = set(tmp_path.rglob("*"))
    assert f"{name!r} in the zip leaves the folder" in refusal(path, open_bundle)
    assert {new.name for new in set(tmp_path.rglob("*")) - before} <= {"home", "bundles", "cache"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_zip_with_a_link_or_a_device(folder: Path, tmp_path: Path, home: Path, kind: int) -> None:
    path = zip_of(folder, tmp_path / "evil.zip")
    info = zipfile.ZipInfo("members/link")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr(info, "/etc/passwd")
    assert "is a link or a device" in refusal(path)
    assert everything_in(home) == []


def test_a_zip_that_says_it_is_too_large(
    folder: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(folder, tmp_path / "bomb.zip", extra={"zeros": bytes(100_000)})
    monkeypatch.setattr(archive, "MAX_BYTES", 100_000)
    assert "expected at most 100000" in refusal(path)
    assert everything_in(home) == []


def test_a_zip_with_too_many_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(folder, tmp_path / "many.zip")
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    assert "in 4 files when unpacked" in refusal(path)


def test_a_zip_that_lies_about_its_size(folder: Path, tmp_path: Path, home: Path) -> None:
    (folder / "MODEL_CARD.md").write_bytes(bytes(123_456))
    path = zip_of(folder, tmp_path / "liar.zip")
    sizes = (123_456).to_bytes(4, "little")
    assert path.read_bytes().count(sizes) == 2
    path.write_bytes(path.read_bytes().replace(sizes, (10).to_bytes(4, "little")))
    assert "expected a sound zip" in refusal(path)
    assert everything_in(home) == []


@pytest.mark.parametrize("name", ["./MODEL_CARD.md", "MODEL_CARD.md/x.weights.h5"])
def test_two_files_at_one_place(folder: Path, tmp_path: Path, home: Path, name: str) -> None:
    if name.endswith(".h5"):
        write_facts(folder, facts(**with_member(weights_file=name)))
    path = zip_of(folder, tmp_path / "clash.zip", extra={name: WEIGHTS["vgg16"]})
    assert refusal(path).startswith(f"{path}: expected a sound zip")
    assert everything_in(home) == []


def test_two_files_of_one_name(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "double.zip", extra={"MODEL_card.md": b"other"})
    assert "have the same name" in refusal(path)


def test_an_encrypted_zip(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "secret.zip")
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    path.write_bytes(data)
    assert "is encrypted" in refusal(path)


def test_a_zip_compressed_in_an_unusual_way(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "odd.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as zipped:
        zipped.writestr("notes", "text")
    assert "another way than deflate" in refusal(path)


@pytest.mark.parametrize("prefixes", [[], ["a/b/"], ["a/", "b/"]])
def test_a_zip_without_one_clear_bundle(folder: Path, tmp_path: Path, prefixes: list[str]) -> None:
    path = tmp_path / "unclear.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("readme", "text")
        for prefix in prefixes:
            zipped.write(folder / "bundle.json", f"{prefix}bundle.json")
    assert "bundle.json in the zip, expected one" in refusal(path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_zip_cut_short(folder: Path, tmp_path: Path, home: Path, keep: float) -> None:
    path = zip_of(folder, tmp_path / "short.zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert refusal(path).startswith(f"{path}: expected a sound zip")
    assert everything_in(home) == []


def test_a_zip_whose_offsets_point_before_its_start(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip")
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    assert "ALL_DETECT_HOME" not in refusal(path)


def test_no_damaged_byte_gives_another_error_or_another_bundle(folder: Path, tmp_path: Path) -> None:
    path = zip_of(folder, tmp_path / "tiny.zip")
    sound, data = load_bundle(path).manifest, path.read_bytes()
    refused = 0
    for place in range(0, len(data), 5):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert load_bundle(path).manifest == sound, place
        except BundleError:
            refused += 1
    assert refused > len(data) / 5 * 0.5


def test_a_wrong_digest_in_a_zip_names_the_zip(folder: Path, tmp_path: Path, home: Path) -> None:
    (folder / "members/vgg16.weights.h5").write_bytes(b"changed")
    path = zip_of(folder, tmp_path / "tiny.zip")
    assert refusal(path).startswith(f"{path}: members/vgg16.weights.h5 has SHA-256")
    assert everything_in(home) == []


# --- Installing ---------------------------------------------------------------------------------------------------


def test_install_a_folder_then_load_it_by_name(folder: Path, home: Path) -> None:
    (folder / "checkpoint.pkl").write_bytes(b"not ours")
    bundle = install_bundle(str(folder))
    assert bundle.folder == home / "bundles/tiny"
    assert load_bundle("tiny") == bundle
    assert sorted(p.relative_to(bundle.folder).as_posix() for p in bundle.folder.rglob("*") if p.is_file()) == [
        "MODEL_CARD.md",
        "bundle.json",
        "members/mobilenet.weights.h5",
        "members/vgg16.weights.h5",
    ]
    assert [path.name for path in (home / "bundles").iterdir()] == ["tiny"]


def test_install_a_zip(folder: Path, tmp_path: Path, home: Path) -> None:
    path = zip_of(folder, tmp_path / "some name.zip", "top/")
    assert install_bundle(path).folder == home / "bundles/tiny"
    assert load_bundle("tiny").digest == load_bundle(folder).digest
    assert [entry.name for entry in (home / "bundles").iterdir()] == ["tiny"]


@pytest.mark.parametrize("as_zip", [True, False])
def test_install_a_file_url(folder: Path, tmp_path: Path, as_zip: bool) -> None:
    path = zip_of(folder, tmp_path / "some name.zip") if as_zip else folder
    assert install_bundle(path.as_uri()).label == "tiny-1.0"


def test_the_same_bundle_twice_is_fine(folder: Path) -> None:
    first = install_bundle(str(folder))
    assert install_bundle(str(folder)) == first
    assert install_bundle(first.folder) == first


def test_another_bundle_of_that_name_is_refused(folder: Path, home: Path) -> None:
    install_bundle(str(folder))
    write_facts(folder, facts(version="2.0"))
    message = refusal(folder, install_bundle)
    assert "tiny-1.0, this one is tiny-2.0" in message
    assert f"remove {home / 'bundles/tiny'}" in message
    assert load_bundle("tiny").label == "tiny-1.0"


def test_a_broken_installed_bundle_says_what_to_remove(folder: Path, home: Path) -> None:
    install_bundle(str(folder))
    (home / "bundles/tiny/MODEL_CARD.md").unlink()
    assert f"remove {home / 'bundles/tiny'} and install again" in refusal(folder, install_bundle)
    shutil.rmtree(home / "bundles/tiny")
    assert install_bundle(str(folder)).label == "tiny-1.0"


def test_a_builtin_name_is_never_taken(folder: Path, home: Path) -> None:
    write_facts(folder, facts(name="lite"))
    assert "'lite' is the name of a built-in bundle" in refusal(folder, install_bundle)
    assert everything_in(home) == []


def test_an_install_that_fails_leaves_nothing(folder: Path, tmp_path: Path, home: Path) -> None:
    (folder / "members/mobilenet.weights.h5").write_bytes(b"changed")
    for source in (folder, zip_of(folder, tmp_path / "tiny.zip")):
        assert "has SHA-256" in refusal(source, install_bundle)
        assert everything_in(home) == []


def test_an_install_whose_copy_breaks_off_leaves_nothing(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def full_disk(source: Path, target: Path) -> None:
        copy(source, target)
        if target.suffix == ".h5":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.shutil, "copyfile", full_disk)
    assert "No space left on device" in refusal(folder, install_bundle)
    assert everything_in(home) == []


def test_a_copy_that_differs_is_not_published(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.shutil, "copyfile", lambda source, target: target.write_bytes(source.read_bytes()[:-1]))
    refusal(folder, install_bundle)
    assert everything_in(home) == []


def test_a_home_that_is_a_file(folder: Path, home: Path) -> None:
    home.write_text("in the way")
    assert "set ALL_DETECT_HOME" in refusal(folder, install_bundle)


@pytest.mark.parametrize("url", ["ftp://example.org/b.zip", "data://x", "javascript://x", "file://server/b.zip"])
def test_other_schemes_are_refused(url: str) -> None:
    assert "expected http://, https:// or file:///" in refusal(url, install_bundle)


# --- Over the network (loopback only) ---------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    def __init__(self, content: bytes, *arguments: Any) -> None:
        self.content = content
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.answer(302, b"", Location="/tiny.zip")
        elif self.path == "/elsewhere":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif self.path == "/short":
            self.answer(200, self.content[:-10], claimed=len(self.content))
        elif self.path == "/tiny.zip":
            self.answer(200, self.content)
        elif self.path == "/slow":
            self.answer(200, b"", claimed=len(self.content))
            with suppress(OSError):  # the other side has gone
                for k in range(100):
                    self.wfile.write(self.content[k : k + 1])
                    time.sleep(0.02)
        else:
            self.answer(404, b"nothing here")

    def answer(self, status: int, body: bytes, claimed: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@contextmanager
def serving(content: bytes) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, content)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def site(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(zip_of(folder, tmp_path / "tiny.zip", "tiny/").read_bytes()) as address:
        yield address


@pytest.mark.parametrize("page", ["/tiny.zip", "/moved"])
def test_install_from_a_server(site: str, home: Path, page: str) -> None:
    assert install_bundle(site + page).folder == home / "bundles/tiny"
    assert load_bundle("tiny").label == "tiny-1.0"
    assert [entry.name for entry in (home / "bundles").iterdir()] == ["tiny"]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("/nothing.zip", "the server answered 404 Not Found"),
        ("/elsewhere", "the server answered 302"),
        ("/short", "10 bytes before the end|IncompleteRead"),
        ("/with space", "can't be fetched"),
    ],
)
def test_a_download_that_fails(site: str, home: Path, page: str, expected: str) -> None:
    with pytest.raises(BundleError, match=expected):
        install_bundle(site + page)
    assert everything_in(home) == []


def test_a_download_that_is_too_large(site: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    assert "larger than the 100 bytes" in refusal(f"{site}/tiny.zip", install_bundle)
    assert everything_in(home) == []


def test_a_download_that_hardly_goes_on(site: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PATIENCE_S", 0.1)
    told = re.search(r"slow: only (\d+) bytes came in \d+ s; try again later", refusal(f"{site}/slow", install_bundle))
    assert told
    assert int(told[1]) < 100
    assert everything_in(home) == []


def test_a_download_of_enough_bytes_goes_on(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PATIENCE_S", 0)
    monkeypatch.setattr(archive, "LEAST_BYTES", 1)
    assert install_bundle(f"{site}/tiny.zip").label == "tiny-1.0"


def test_a_server_that_does_not_answer(site: str, home: Path) -> None:
    with serving(b"") as closed:
        pass
    assert "no connection" in refusal(f"{closed}/tiny.zip", install_bundle)
    assert everything_in(home) == []


def test_where_a_redirect_ends_is_checked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[tuple[str, str]] = []
    monkeypatch.setattr(archive, "_check_redirect", lambda url, final: ends.append((url, final)))
    install_bundle(f"{site}/moved")
    assert ends == [(f"{site}/moved", f"{site}/tiny.zip")]


def test_a_redirect_may_not_leave_https() -> None:
    archive._check_redirect("https://a.org/b.zip", "https://c.org/b.zip")
    archive._check_redirect("http://a.org/b.zip", "https://a.org/b.zip")
    for url, final in [("https://a.org/b", "http://a.org/b"), ("http://a.org/b", "ftp://a.org/b")]:
        with pytest.raises(BundleError, match="refused"):
            archive._check_redirect(url, final)


# --- Listing ------------------------------------------------------------------------------------------------------


def test_a_broken_bundle_does_not_hide_the_others(home: Path, builtin: Path) -> None:
    for name in ("beta", "alpha", "broken", "lite"):
        make(home / "bundles" / name, name=name)
    (home / "bundles/broken/members/vgg16.weights.h5").write_bytes(b"changed")
    (home / "bundles/.leftover").mkdir()
    (home / "bundles/file.txt").touch()
    lite, *others, hidden = list_bundles()
    assert (lite.name, lite.version, lite.description) == ("lite", "1.0", "For tests")
    assert (lite.label, lite.builtin, lite.path, lite.error) == ("lite-1.0", True, builtin / "lite", None)
    assert [(entry.name, entry.version, entry.builtin) for entry in others] == [
        ("alpha", "1.0", False),
        ("beta", "1.0", False),
        ("broken", "", False),
    ]
    assert [entry.error is None for entry in others] == [True, True, False]
    assert "SHA-256" in (others[-1].error or "")
    assert "hidden by the built-in bundle" in (hidden.error or "")


def test_a_folder_that_cannot_be_read_hides_no_bundle_of_the_package(
    home: Path, builtin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the refusal is made up."""
    folders_in = store.folders_in

    def denied(root: Path) -> list[Path]:
        if root == home / "bundles":
            raise BundleError("can't be read")
        return folders_in(root)

    monkeypatch.setattr(store, "folders_in", denied)
    lite, unreadable = list_bundles()
    assert (lite.path, lite.error) == (builtin / "lite", None)
    assert (unreadable.path, unreadable.error) == (home / "bundles", "can't be read; or set ALL_DETECT_HOME")


def test_nothing_installed_is_an_empty_list(builtin: Path) -> None:
    shutil.rmtree(builtin)
    assert list_bundles() == []
    assert "installed: none" in refusal("lite")


# --- Networks that find cells -------------------------------------------------------------------------------------


def segmenter_facts(**changes: Any) -> dict[str, Any]:
    network = {
        "weights_file": "network.weights.h5",
        "sha256": hashlib.sha256(b"network").hexdigest(),
        "architecture": "unet",
        "widths": [8, 16],
        "cell_diameter_px": 40.0,
    }
    shared = {k: v for k, v in facts(name="finder").items() if k in SegmenterManifest.model_fields}
    return shared | {"kind": "segmenter", "network": network} | changes


def with_network(**changes: Any) -> dict[str, Any]:
    return {"network": segmenter_facts()["network"] | changes}


def make_segmenter(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "network.weights.h5").write_bytes(b"network")
    (folder / "MODEL_CARD.md").write_text(CARD, encoding="utf-8")
    write_facts(folder, segmenter_facts(**changes))
    return folder


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    return make_segmenter(tmp_path / "somewhere/finder")


def test_a_segmenter_is_loaded_with_its_facts(segmenter: Path) -> None:
    bundle = load_segmenter(segmenter)
    assert bundle.label == "finder-1.0"
    assert bundle.card == CARD
    assert bundle.manifest == SegmenterManifest.model_validate(segmenter_facts())
    assert bundle.weights(bundle.manifest.network).read_bytes() == b"network"
    assert bundle.manifest.network.widths == (8, 16)
    assert load_any_bundle(segmenter) == bundle


def test_a_bundle_of_either_kind_is_loaded_as_what_it_is(folder: Path, segmenter: Path) -> None:
    assert load_any_bundle(folder) == load_bundle(folder)
    kinds = [type(load_any_bundle(path).manifest) for path in (folder, segmenter)]
    assert kinds == [Manifest, SegmenterManifest]


def test_a_segmenter_does_not_score(segmenter: Path) -> None:
    assert refusal(segmenter) == "finder-1.0 finds cells, it does not score them; use it with --segmentation"


def test_an_ensemble_does_not_segment(folder: Path) -> None:
    assert refusal(folder, load_segmenter) == "tiny-1.0 scores cells, it does not find them; use it with --bundle"
    assert "lite-1.0 scores cells" in refusal("lite", load_segmenter)


def test_a_segmenter_is_installed_and_listed(segmenter: Path, folder: Path, tmp_path: Path, home: Path) -> None:
    path = zip_of(segmenter, tmp_path / "finder.zip", "top/")
    assert load_segmenter(path).digest == load_segmenter(segmenter).digest
    assert install_bundle(path).folder == home / "bundles/finder"
    install_bundle(folder)
    assert load_segmenter("finder").manifest == load_segmenter(segmenter).manifest
    assert "finds cells" in refusal("finder")
    assert [(entry.name, entry.scores, entry.error) for entry in list_bundles()] == [
        ("lite", True, None),
        ("finder", False, None),
        ("tiny", True, None),
    ]
    installed = sorted(file.name for file in (home / "bundles/finder").iterdir())
    assert installed == ["MODEL_CARD.md", "bundle.json", "network.weights.h5"]


def test_a_segmenter_of_an_ensembles_name_is_another_bundle(folder: Path, tmp_path: Path) -> None:
    install_bundle(folder)
    other = make_segmenter(tmp_path / "other", name="tiny")
    assert "another bundle named 'tiny' is installed" in refusal(other, install_bundle)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema_version": 2, "novelty": 1}, "schema_version is 2, expected 1; update"),
        ({"novelty": 1}, "novelty: unknown key"),
        ({"classes": ["Hem", "ALL"]}, "classes: unknown key"),
        ({"name": "../x"}, "name: "),
        ({"network": None}, "network: "),
        (with_network(novelty=1), "network.novelty: unknown key"),
        (with_network(architecture="vgg16"), "network.architecture: Input should be 'unet', not 'vgg16'"),
        (with_network(widths=[8]), "network.widths: "),
        (with_network(widths=[8] * 7), "network.widths: "),
        (with_network(widths=[8, 0]), "network.widths[1]: Input should be greater than or equal to 1, not 0"),
        (with_network(widths=[8, 2000]), "network.widths[1]: "),
        (with_network(cell_diameter_px=7), "network.cell_diameter_px: "),
        (with_network(cell_diameter_px=401), "network.cell_diameter_px: "),
        (with_network(sha256="abc"), "network.sha256: "),
        (with_network(weights_file="../network.weights.h5"), "leaves the bundle's folder"),
        (with_network(weights_file="network.pkl"), "is not a weights file"),
        (with_network(weights_file="other.weights.h5"), "no file other.weights.h5"),
        (with_network(sha256="0" * 64), "network.weights.h5 has SHA-256"),
    ],
)
def test_a_segmenter_that_is_none(segmenter: Path, changes: dict[str, Any], expected: str) -> None:
    write_facts(segmenter, segmenter_facts(**changes))
    for open_bundle in (load_segmenter, load_bundle, load_any_bundle, install_bundle):
        message = refusal(segmenter, open_bundle)
        assert expected in message
        assert message.startswith(f"{segmenter}: ")


@pytest.mark.parametrize("kind", ["ensemble", "Segmenter", 1, None])
def test_another_kind_is_an_unknown_key(segmenter: Path, kind: Any) -> None:
    write_facts(segmenter, facts(kind=kind))
    assert "kind: unknown key" in refusal(segmenter, load_any_bundle)


def test_the_package_ships_one_of_each() -> None:
    from napari_all_detect.bundle import places

    shipped = {path.name: open_shipped(path) for path in sorted(places.builtin_root().iterdir()) if path.is_dir()}
    assert {name: type(bundle.manifest) for name, bundle in shipped.items()} == {
        "cells": SegmenterManifest,
        "lite": Manifest,
    }
    assert all(bundle.manifest.research_use_only for bundle in shipped.values())


def open_shipped(path: Path) -> AnyBundle:
    bundle = load_any_bundle(path)
    assert bundle.manifest.name == path.name
    return bundle
