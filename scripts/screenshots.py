"""Take the pictures of the napari plugin for README and docs, from the real thing.

sh scripts/with_display.sh python scripts/screenshots.py docs/images
"""

import sys
import time
from pathlib import Path

import napari
from napari.qt import get_qapp
from PIL import Image

from napari_all_detect._napari.cells.layer_link import show_cell

PLUGIN = "napari-all-detect"
SIZE_PX = (1500, 950)
COLOURS = 256
"""A palette is enough for pictures of windows, and a quarter of the size."""


def main(folder: Path) -> None:
    """Score the drawn smear in a viewer and take a picture at every step."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*SIZE_PX)
    viewer.open_sample(PLUGIN, "smear")
    _, score = viewer.window.add_plugin_dock_widget(PLUGIN, "Score cells")
    take(viewer, folder / "napari_before.png")

    score.smear.image.choose(viewer.layers["smear (drawn)"])
    score.score()
    wait_while(lambda: score.controller.state.busy)
    results, layer = score.followed.results, score.followed.layer
    take(viewer, folder / "napari_scored.png")
    score.tabs.setCurrentIndex(2)
    take(viewer, folder / "napari_summary.png")
    score.tabs.setCurrentIndex(1)

    _, gallery = viewer.window.add_plugin_dock_widget(PLUGIN, "Cell gallery", tabify=True)
    raise_dock(gallery)
    results.select([int(results.table["p_all"].argmax())])
    gallery.explain()
    wait_while(lambda: gallery.explain_button.text() != "Grad-CAM")
    gallery.show_in_place()
    show_cell(viewer, layer, int(results.selected[-1]), least_zoom=6)
    take(viewer, folder / "napari_gallery.png")

    viewer.layers[-1].visible = False
    _, review = viewer.window.add_plugin_dock_widget(PLUGIN, "Review", tabify=True)
    raise_dock(review)
    for _ in range(12):
        review.judge("ALL" if results.table["p_all"].iloc[review.reviewer.current] > 0.45 else "Hem")
    take(viewer, folder / "napari_review.png")
    viewer.close()


def raise_dock(widget: object) -> None:
    """Bring a dock that shares its place with others to the front."""
    parent = widget
    while parent is not None and type(parent).__name__ != "QtViewerDockWidget":
        parent = parent.parent()
    parent.raise_()


def wait_while(condition: object, seconds: float = 180) -> None:
    """Let the window live until a condition ends."""
    end = time.monotonic() + seconds
    while condition():
        if time.monotonic() > end:
            raise TimeoutError("it takes too long")
        get_qapp().processEvents()
        time.sleep(0.02)


def take(viewer: napari.Viewer, path: Path) -> None:
    """Write the window as a small PNG."""
    for _ in range(20):
        get_qapp().processEvents()
        time.sleep(0.02)
    viewer.screenshot(path=str(path), canvas_only=False, flash=False)
    picture = Image.open(path).convert("RGB")
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
