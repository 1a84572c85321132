"""URLs: what is asked for, what images are called by them, and what is no URL."""

from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
import zarr
from numpy.testing import assert_array_equal
from PIL import Image

from napari_all_detect.batch.planning import plan_units
from napari_all_detect.sources import find_images

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


@pytest.mark.parametrize("address", ["foo://x/y.png", "http://[x/y.png"])
def test_what_is_no_url_fails_alone(address: str, folder: Path) -> None:
    units, failures = plan_units(find_images([address, folder / "c.png"]))
    assert [unit.name for unit in units] == ["c.png"]
    ((name, stage, reason),) = ((failure.input, failure.stage, failure.reason) for failure in failures)
    assert (name, stage) == ("y.png", "open")
    assert "expected http://, https://, s3:// or another that fsspec knows" in reason
