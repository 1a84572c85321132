"""URLs: what is asked for, what images are called by them, and what is no URL."""

import socket
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from select import select
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
import zarr
from numpy.testing import assert_array_equal
from PIL import Image

from napari_all_detect import retrying
from napari_all_detect.batch.planning import plan_units
from napari_all_detect.errors import StoreError
from napari_all_detect.sources import find_images, places
from napari_all_detect.sources.places import as_place, zarr_place
from napari_all_detect.sources.plane import readable

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("upath")
pytest.importorskip("aiohttp")

RGB = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, a TIFF and a zarr array, all of the same pixels."""
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(RGB).save(folder / "c.png")
    tifffile.imwrite(folder / "d.tif", RGB, photometric="rgb")
    zarr.create_array(folder / "e.zarr", data=RGB)
    return folder


def images_of(*inputs: str | Path) -> dict[str, str]:
    """Return what files of each image are called; all its pixels are those that were drawn."""
    units, failures = plan_units(find_images(list(inputs)))
    assert failures == []
    for unit in units:
        assert_array_equal(unit.plane.read().rgb, RGB)
    return {unit.name: unit.stem for unit in units}


@pytest.mark.parametrize("protocol", ["file", "local"])
def test_files_of_this_machine_by_url(protocol: str, folder: Path) -> None:
    assert images_of(f"{protocol}://{folder}/c.png") == {"c.png": "c"}
    assert images_of(f"{protocol}://{folder}") == {"c.png": "c", "d.tif": "d", "e.zarr": "e"}


def test_files_in_memory_by_url(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/day", recursive=True)
    try:
        found = images_of("memory://day")
        assert images_of("memory://day/d.tif") == {"d.tif": "d"}
    finally:
        memory.rm("/day", recursive=True)
    assert found == {"c.png": "c", "d.tif": "d", "e.zarr": "e"}


@pytest.fixture
def presigned(folder: Path, serve: Callable[[Any], str]) -> str:
    """Serve the folder as S3 serves what is not public: only GET, only with a signature, whatever follows that."""

    class Presigned(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if not url.query.startswith("sig="):
                self.send_error(403)
                return
            data = (folder / Path(url.path).name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    return serve(Presigned)


@pytest.mark.parametrize("query", ["sig=abc", "sig=a/b.zarr&by=x", "sig=abc%2Fd%3D"])
def test_addresses_with_a_signature(presigned: str, query: str) -> None:
    assert images_of(f"{presigned}/c.png?{query}") == {"c.png": "c"}
    assert images_of(f"{presigned}/bucket/day/d.tif?{query}") == {"d.tif": "d"}


def test_addresses_that_differ_in_the_server_alone(presigned: str, folder: Path, serve: Callable[[Any], str]) -> None:
    other = serve(partial(SimpleHTTPRequestHandler, directory=str(folder)))
    found = images_of(f"{presigned}/c.png?sig=1", f"{other}/c.png", f"{other.replace('127.0.0.1', 'localhost')}/c.png")
    assert len(found) == len(set(found.values())) == 3
    assert all(name.endswith("c.png") and ":" not in name for name in found)


def test_addresses_that_differ_in_the_query_alone(presigned: str) -> None:
    found = images_of(
        f"{presigned}/day/c.png?sig=secret1", f"{presigned}/day/c.png?sig=secret2", f"{presigned}/d.tif?sig=3"
    )
    first, second, third = found
    assert third == "d.tif"
    assert first != second
    for name in (first, second):
        assert name.endswith("/day/c.png")
        assert found[name] == name.removesuffix(".png")
        assert "secret" not in name
        assert not set("?=:") & set(name)


@pytest.fixture
def failing(folder: Path, serve: Callable[[Any], str]) -> tuple[str, dict[str, int]]:
    """Serve the folder; with the URL comes how often each path is answered by 503 yet (GET and HEAD), at first none."""
    left: dict[str, int] = {}

    class Failing(SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            if not left.get(self.path, 0):
                return super().send_head()
            left[self.path] -= 1
            self.send_error(503)
            return None

        def log_message(self, *arguments: Any) -> None:
            pass

    return serve(partial(Failing, directory=str(folder.parent))), left


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for nothing before another try."""
    monkeypatch.setattr(retrying, "DELAYS_S", (0.0, 0.0, 0.0))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("given", ["in/*.png", "in", "in/"])
def test_a_folder_is_listed_again_if_the_server_fails_once(
    given: str, failing: tuple[str, dict[str, int]], folder: Path
) -> None:
    url, left = failing
    left["/in/"] = 1
    expected = ["c.png"] if "*" in given else ["c.png", "d.tif", "e.zarr"]
    assert list(images_of(f"{url}/{given}")) == expected
    assert left == {"/in/": 0}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("given", ["in/*.png", "in/"])
def test_a_folder_that_cannot_be_listed_fails_alone(
    given: str, failing: tuple[str, dict[str, int]], folder: Path
) -> None:
    url, left = failing
    left["/in/"] = left["/in/*.png"] = 1000
    units, failures = plan_units(find_images([f"{url}/{given}", folder / "d.tif"]))
    assert [unit.name for unit in units] == ["d.tif"]
    ((stage, reason),) = ((failure.stage, failure.reason) for failure in failures)
    assert stage == "open"
    assert "503" in reason


@pytest.mark.usefixtures("at_once")
def test_a_folder_below_that_cannot_be_listed_fails_alone(failing: tuple[str, dict[str, int]], folder: Path) -> None:
    (folder / "day").mkdir()
    (folder / "c.png").rename(folder / "day/c.png")
    url, left = failing
    left["/in/day/"] = 1000
    units, failures = plan_units(find_images([f"{url}/in"]))
    assert [unit.name for unit in units] == ["d.tif", "e.zarr"]
    assert [(failure.input, failure.stage, failure.passes) for failure in failures] == [("day", "open", True)]


@pytest.fixture
def array(folder: Path) -> str:
    """Write an array where a plate has its images; return its path from what is served."""
    zarr.create_group(folder / "plate.zarr")
    zarr.create_array(folder / "plate.zarr/A/1/0", data=RGB)
    return "in/plate.zarr/A/1/0"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("place", ["plate.zarr/A/1/0", "plate.zarr", "e.zarr"])
def test_a_server_that_fails_twice_has_a_store(place: str, array: str, failing: tuple[str, dict[str, int]]) -> None:
    url, left = failing
    given = "in/e.zarr" if place == "e.zarr" else array
    left[f"/in/{place}/zarr.json"] = 2
    assert list(images_of(f"{url}/{given}")) == [given.removeprefix("in/")]
    assert left == {f"/in/{place}/zarr.json": 0}


@pytest.mark.usefixtures("at_once")
def test_where_a_store_above_cannot_be_asked_the_image_has_its_whole_name(
    array: str, failing: tuple[str, dict[str, int]]
) -> None:
    url, left = failing
    left["/in/plate.zarr/zarr.json"] = 1000
    server = url.removeprefix("http://").replace(":", "_")
    assert list(images_of(f"{url}/{array}", f"{url}/in/c.png")) == [f"{server}/{array}", "c.png"]


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_a_slash_at_the_end_changes_no_name(
    slash: str, array: str, failing: tuple[str, dict[str, int]], folder: Path
) -> None:
    url, _ = failing
    (folder / "day").mkdir()
    (folder / "c.png").rename(folder / "day/c.png")
    assert list(images_of(f"{url}/{array}{slash}", f"{url}/in/day{slash}")) == ["plate.zarr/A/1/0", "c.png"]
    (folder / "empty").mkdir()
    _, failures = plan_units(find_images([f"{url}/in/empty{slash}", f"{url}/in/missing{slash}"]))
    assert [failure.input for failure in failures] == ["empty", "missing"]


def test_folders_in_an_address_that_ends_with_a_slash(failing: tuple[str, dict[str, int]]) -> None:
    url, _ = failing
    assert list(images_of(f"{url}/")) == [f"in/{name}" for name in ("c.png", "d.tif", "e.zarr")]


@pytest.mark.usefixtures("at_once")
def test_a_server_that_never_answers_is_not_waited_for_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "READ_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        units, failures = plan_units(find_images([f"{url}/c.png", folder / "c.png"]))
        assert [unit.plane.path for unit in units] == [folder / "c.png"]
        ((stage, reason),) = ((failure.stage, failure.reason) for failure in failures)
        assert stage == "open"
        assert "the disk or server failed" in reason
        with pytest.raises(StoreError), readable(folder, "zarr"):
            zarr.open(zarr_place(as_place(f"{url}/e.zarr")), mode="r")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", ["c.png", "c.png?sig=1", "e.zarr", "day"])
def test_a_server_that_never_answers_is_asked_four_times_in_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "READ_S", 0.2)
    monkeypatch.setattr(retrying, "PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        _, failures = plan_units(find_images([f"http://127.0.0.1:{silent.getsockname()[1]}/{name}"]))
        asked = list[socket.socket]()
        while select([silent], [], [], 0)[0]:
            asked.append(silent.accept()[0])
        for connection in asked:
            connection.close()
    assert (len(failures), len(asked)) == (1, 4)


@pytest.mark.parametrize("address", ["foo://x/y.png", "http://[x/y.png"])
def test_what_is_no_url_fails_alone(address: str, folder: Path) -> None:
    units, failures = plan_units(find_images([address, folder / "c.png"]))
    assert [unit.name for unit in units] == ["c.png"]
    ((name, stage, reason),) = ((failure.input, failure.stage, failure.reason) for failure in failures)
    assert (name, stage) == ("y.png", "open")
    assert "expected http://, https://, s3:// or another that fsspec knows" in reason
