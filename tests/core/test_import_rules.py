"""Who may import whom, and what `import napari_all_detect` may cost."""

import ast
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import napari_all_detect

PACKAGE = Path(napari_all_detect.__file__).parent
NAME = "napari_all_detect"

GUI = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt"}
NETWORKS = {"tensorflow", "keras", "jax", "torch", "openvino"}
SLOW = {"skimage", "pandas", "zarr", "scipy", "dask"}

STAGES = {
    *("sources", "segmentation", "crops", "bundle", "ensemble", "engines", "trust", "table", "explain"),
    "export",
}
DATA_SHARED = {
    ("engines", "bundle"),
    ("segmentation", "bundle"),
    ("segmentation", "engines"),
    ("explain", "bundle"),
    ("explain", "engines"),
}
"""Stages that know the other's data types. Cells are found, and scores explained, by networks that a bundle holds and
an engine builds."""


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh Python; return the top-level modules it left loaded."""
    code = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@cache
def modules() -> dict[str, Path]:
    """Return the package's modules by dotted name; a package by its own."""
    paths = {path.relative_to(PACKAGE.parent).with_suffix(""): path for path in PACKAGE.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


@cache
def imports(module: str) -> frozenset[str]:
    """Return the dotted names that a module imports anywhere, inside functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def exported(module: str) -> set[str]:
    """Return what a module's `__all__` lists; nothing if it has none."""
    for node in ast.parse(modules()[module].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def part(dotted: str) -> str:
    """Return which part of the package a dotted name belongs to: `table`, `sources`, `_napari` ..."""
    return dotted.split(".")[1] if "." in dotted else "__init__"


def parts_imported(module: str) -> set[str]:
    return {part(name) for name in imports(module) if name.startswith(f"{NAME}.")} - {part(module)}


def core() -> list[str]:
    return sorted(name for name in modules() if part(name) != "_napari")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_after(f"import {NAME}") & (GUI | NETWORKS | SLOW)


def test_importing_every_core_module_loads_no_gui_and_no_network_library() -> None:
    lines = "\n".join(f"import {name}" for name in core() if not name.endswith("__main__"))
    loaded = loaded_after(lines)
    assert "pandas" in loaded
    assert not loaded & (GUI | NETWORKS)


@pytest.mark.parametrize("module", core())
def test_the_core_knows_no_gui_and_no_training(module: str) -> None:
    tops = {name.partition(".")[0] for name in imports(module)}
    assert not tops & (GUI | {"all_detect_training"})
    assert "_napari" not in parts_imported(module)


def test_the_plugin_knows_no_training() -> None:
    for module in modules():
        assert not any(name.startswith("all_detect_training") for name in imports(module))


@pytest.mark.parametrize("module", [name for name in modules() if part(name) == "_napari"])
def test_parts_of_the_plugin_import_downwards_only(module: str) -> None:
    parts = ["process", "layers", "cells", "files", "run", "qt"]
    depth = {f"{NAME}._napari.{name}": k for k, name in enumerate(parts)}

    def own(dotted: str) -> int:
        return depth.get(".".join(dotted.split(".")[:3]), -1)

    if own(module) >= 0:
        assert max(map(own, imports(module)), default=-1) <= own(module)


@pytest.mark.parametrize("module", [name for name in core() if name != NAME])
def test_layers_import_downwards_only(module: str) -> None:
    above = ["errors", "params", "pipeline", "batch", "cli", "__main__"]
    own = part(module)
    if own in ("errors", "params"):
        allowed = set(above[: above.index(own)])
        assert parts_imported(module) <= allowed
    else:
        floor = above.index(own) if own in above else above.index("params")
        assert not parts_imported(module) & set(above[floor + 1 :])


@pytest.mark.parametrize("module", [name for name in core() if part(name) in STAGES])
def test_stages_do_not_import_each_other(module: str) -> None:
    others = {(part(module), other) for other in parts_imported(module) & STAGES}
    assert others <= DATA_SHARED


def test_only_what_opens_a_network_knows_bundles_and_engines() -> None:
    """The rest of segmentation is arrays."""
    users = {module for module in core() if part(module) == "segmentation" and parts_imported(module) & STAGES}
    assert users == {f"{NAME}.segmentation.methods", f"{NAME}.segmentation.learned"}


@pytest.mark.parametrize("module", core())
def test_all_lists_what_other_modules_import(module: str) -> None:
    dotted = {name for other in modules() if other != module for name in imports(other)} - set(modules())
    names = {name.rpartition(".")[2] for name in dotted if name.rpartition(".")[0] == module}
    assert {name for name in names if not name.startswith("_")} <= exported(module)


def test_the_equations_are_pure_numpy() -> None:
    tops = {name.partition(".")[0] for name in imports(f"{NAME}.ensemble")}
    assert tops - sys.stdlib_module_names == {"numpy"}
