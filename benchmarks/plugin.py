"""What the napari plugin costs: recolouring, reacting, and napari's start with and without it.

sh scripts/with_display.sh python -m benchmarks.plugin
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 7
PITCH_PX = 10


def main() -> None:
    """Measure and print a table."""
    print("| what | value | unit |\n|---|---:|---|")
    for n in (10_000, 100_000):
        for what, seconds in colours(n).items():
            print(f"| {what}, {n} labels | {seconds:.3f} | s |")
    for what, seconds in start().items():
        print(f"| {what} | {1000 * seconds:.0f} | ms |")


def colours(n: int) -> dict[str, float]:
    """Seconds until n labels are drawn in other colours, and until a threshold has reached layer and features."""
    import napari

    from napari_all_detect._napari.layer_link import attach

    labels = squares(n)
    viewer = napari.Viewer(show=True)
    layer = viewer.add_labels(labels)
    results = made_up(n)
    attach(layer, results)
    others = iter(["P(Hem)", "spread", "P(ALL)"] * ROUNDS)
    thresholds = iter(np.linspace(0.2, 0.8, ROUNDS))

    def recolour() -> None:
        results.colouring = next(others)
        viewer.screenshot(flash=False)

    def recall() -> None:
        results.threshold = float(next(thresholds))
        viewer.screenshot(flash=False)

    seconds = {
        "drawing alone": median(lambda: viewer.screenshot(flash=False)),
        "other colours, drawn": median(recolour),
        "other threshold, drawn": median(recall),
    }
    viewer.close()
    return seconds


def squares(n: int) -> np.ndarray:
    """Label n squares."""
    side = int(np.ceil(np.sqrt(n)))
    numbers = np.zeros(side * side, np.int32)
    numbers[:n] = np.arange(1, n + 1)
    labels = np.kron(numbers.reshape(side, side), np.ones((PITCH_PX, PITCH_PX), np.int32))
    labels[::PITCH_PX] = 0
    labels[:, ::PITCH_PX] = 0
    return labels


def made_up(n: int) -> object:
    """Return results of n cells with probabilities drawn at random."""
    from napari_all_detect import table
    from napari_all_detect._napari.messages import Opened
    from napari_all_detect._napari.results import CellResults, Rows

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
    rows = Rows(cells, np.arange(1, n + 1), np.zeros((n, 0), np.int64), None, cells[:0])
    return CellResults(rows, Opened("lite", "lite", 0, members, (1.0,) * 5, 0.5, "", ""))


def start() -> dict[str, float]:
    """Seconds to find all plugins and show a viewer, in fresh processes, with our plugin and with it disabled."""
    code = (
        "import time; began = time.perf_counter(); import napari, npe2; "
        "pm = npe2.PluginManager.instance(); {}; viewer = napari.Viewer(show=True); "
        "print(time.perf_counter() - began); viewer.close()"
    )
    disabled = "pm.discover(); pm.disable('napari-all-detect')"
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(ROUNDS):
        seconds["with"].append(run(code.format("pm.discover()")))
        seconds["without"].append(run(code.format(disabled)))
    ours, none = (statistics.median(seconds[name]) for name in ("with", "without"))
    manifest = (
        "import time, npe2; began = time.perf_counter(); npe2.PluginManifest.from_distribution('napari-all-detect')"
    )
    manifest += "; print(time.perf_counter() - began)"
    return {
        "napari's start with the plugin": ours,
        "napari's start with it disabled": none,
        "difference": ours - none,
        "reading our manifest": statistics.median(run(manifest) for _ in range(ROUNDS)),
    }


def median(task: Callable[[], object]) -> float:
    """Return the median seconds of a task."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def run(code: str) -> float:
    """Run code in a new process and return the number that it prints last."""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return float(printed.split()[-1])


if __name__ == "__main__":
    main()
