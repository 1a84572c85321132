"""Run the benchmarks and write `results.json`, and `docs/speed.md` with its plots.

Machines are shared and noisy: peers alternate within one process, figures are medians, and ratios are what counts.
A part is a module of this folder with a function `run(smoke) -> Tables`.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.measure import Tables, machine
from benchmarks.page import write_page

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the parts that are named, or all; those measured before stay."""
    found = parts()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("part", nargs="*", choices=[*found, []], help="what to measure; all if not given")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, once: checks that it runs, measures nothing")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for results.json")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "speed.md", help="page for the tables")
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in arguments.part or found:
        began = time.perf_counter()
        if tables := found[name](arguments.smoke):  # what can't be measured here stays as it was
            results[name] = {"machine": machine(), "tables": tables}
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_page(results, arguments.page)
    return 0


def parts() -> dict[str, Callable[[bool], Tables]]:
    """Return the `run` of each module that has one."""
    names = [found.name for found in pkgutil.iter_modules(benchmarks.__path__) if found.name != "run"]
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    return {name: module.run for name, module in modules.items() if hasattr(module, "run")}


if __name__ == "__main__":
    sys.exit(main())
