"""What the napari plugin costs: recolouring, reacting, and napari's start with and without it.

python -m benchmarks.plugin

Windows are drawn in a process of their own, on a virtual screen where there is one: networks and Mesa's software
renderer crash each other.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PITCH_PX = 10
HIGHEST_NUMBER = 4_000_000
ON_A_SCREEN = ["sh", "scripts/with_display.sh"] if sys.platform == "linux" else []
Row = dict[str, Any]


def run(smoke: bool = False) -> dict[str, list[Row]]:
    """Measure in fresh processes; `smoke` only checks that it runs."""
    rounds, n = (1, 1_000) if smoke else (7, 100_000)
    code = f"import json; from benchmarks.plugin import colours; print(json.dumps(colours({n}, {rounds})))"
    return {
        "The napari plugin: colours": json.loads(printed(code, ON_A_SCREEN)),
        "The napari plugin: napari's start": start(rounds),
    }


def colours(n: int, rounds: int) -> list[Row]:
    """Seconds until n labels are drawn in other colours, and until a threshold has reached layer and features."""
    import napari

    from napari_all_detect._napari.cells.layer_link import attach

    viewer = napari.Viewer(show=True)
    layer = viewer.add_labels(squares(n))
    results = made_up(n)
    attach(layer, results)
    colourings = iter(["P(Hem)", "spread", "P(ALL)"] * 3 * rounds)
    thresholds = iter(np.linspace(0.2, 0.8, rounds))

    def draw() -> None:
        viewer.screenshot(flash=False)

    def recolour() -> None:
        results.colouring = next(colourings)
        draw()

    def recall() -> None:
        results.threshold = float(next(thresholds))
        draw()

    rows = [
        row(f"{n:,} labels: drawing alone", median(draw, rounds), "s"),
        row(f"{n:,} labels: other colours, drawn", median(recolour, rounds), "s"),
        row(f"{n:,} labels: other threshold in colours and features, drawn", median(recall, rounds), "s"),
    ]
    far_apart = np.linspace(1, HIGHEST_NUMBER, n).astype(np.int64)
    layer.data = np.concatenate([[0], far_apart])[layer.data].astype(np.int32)
    attach(layer, results := made_up(n, far_apart))
    draw()
    rows.append(
        row(f"{n:,} labels up to number {HIGHEST_NUMBER:,}: other colours, drawn", median(recolour, rounds), "s")
    )
    rows.append(row("numba loaded for it", float("numba" in sys.modules), "0 or 1"))
    viewer.close()
    return rows


def squares(n: int) -> np.ndarray:
    """Label n squares."""
    side = int(np.ceil(np.sqrt(n)))
    numbers = np.zeros(side * side, np.int32)
    numbers[:n] = np.arange(1, n + 1)
    labels = np.kron(numbers.reshape(side, side), np.ones((PITCH_PX, PITCH_PX), np.int32))
    labels[::PITCH_PX] = 0
    labels[:, ::PITCH_PX] = 0
    return labels


def made_up(n: int, numbers: np.ndarray | None = None) -> Any:
    """Return results of n cells, numbered from 1 if not said otherwise, with probabilities drawn at random."""
    from napari_all_detect import table
    from napari_all_detect._napari.cells.results import CellResults, Rows
    from napari_all_detect._napari.process.messages import Opened

    members = ("one", "two", "three", "four", "five")
    votes = np.random.default_rng(0).random((n, 5)).astype(np.float32)
    p_all = votes.mean(axis=1)
    values = {c.name: 0 for c in table.cell_columns(members) if c.dtype in ("int64", "float32")} | {
        "label": np.arange(1, n + 1),
        "p_all": p_all,
        "p_hem": 1 - p_all,
        "call": np.where(p_all >= 0.5, "ALL", "Hem"),
        "spread": votes.std(axis=1),
        **{f"p_all_{name}": votes[:, k] for k, name in enumerate(members)},
    }
    cells = table.typed(table.cell_columns(members), values, n)
    numbers = np.arange(1, n + 1) if numbers is None else numbers
    rows = Rows(cells, numbers, np.zeros((n, 0), np.int64), None, cells[:0])
    return CellResults(rows, Opened("lite", "lite", 0, members, (1.0,) * 5, 0.5, "", ""))


def start(rounds: int) -> list[Row]:
    """Milliseconds of processor time until plugins are found and a viewer is shown, with ours and with it disabled.

    A machine that others use, too, shows in seconds but hardly in processor time; the least of the rounds counts.
    """
    code = (
        "import time, sys, napari, npe2; pm = npe2.PluginManager.instance(); {}; "
        "viewer = napari.Viewer(show=True); seconds = time.process_time(); "
        "ours = len([name for name in sys.modules if name.startswith('napari_all_detect.')]); viewer.close(); "
        "print(seconds, ours)"
    )
    disabled = "pm.discover(); pm.disable('napari-all-detect')"
    found: dict[str, list[float]] = {"pm.discover()": [], disabled: []}
    for _ in range(rounds):
        for how, seconds in found.items():
            taken, modules = printed(code.format(how), ON_A_SCREEN).split()
            seconds.append(float(taken))
            if how != disabled:
                loaded = int(modules)
    ours, none = map(min, found.values())
    manifest = "import time, npe2; began = time.process_time(); npe2.PluginManifest.from_distribution({!r}); {}"
    read = printed(manifest.format("napari-all-detect", "print(time.process_time() - began)"))
    return [
        row("napari's start with the plugin", 1000 * ours, "ms"),
        row("napari's start with it disabled", 1000 * none, "ms"),
        row("difference", 1000 * (ours - none), "ms"),
        row("of which reading our manifest", 1000 * float(read), "ms"),
        row("modules of ours loaded at the start", loaded, ""),
    ]


def median(task: Callable[[], object], rounds: int) -> float:
    """Return the median seconds of a task."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def row(what: str, value: float, unit: str) -> Row:
    """Return one figure."""
    return {"what": what, "value": round(value, 3), "unit": unit}


def printed(code: str, before: list[str] | None = None) -> str:
    """Run code in a new process and return the last line that it prints."""
    command = [*(before or []), sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]


if __name__ == "__main__":
    print("| what | value | unit |\n|---|---:|---|")
    for figures in run("--smoke" in sys.argv).values():
        for figure in figures:
            print(f"| {figure['what']} | {figure['value']:g} | {figure['unit']} |")
