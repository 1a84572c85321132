"""`all-detect bundles`."""

import argparse
import sys

from napari_all_detect.streams import one_line, shown

__all__ = ["install", "list_all", "show", "tune", "verify"]


def list_all(arguments: argparse.Namespace) -> int:
    """Print a line for each bundle that can be found."""
    from napari_all_detect.bundle import list_bundles

    listed = list_bundles()
    for bundle in listed:
        place = "builtin" if bundle.builtin else "installed"
        if bundle.error is None:
            description = " ".join(bundle.description.split())
            print(one_line(f"{bundle.label}  {place}  {description}  {bundle.path}"))
        else:
            print(one_line(f"{bundle.name}  {place}  broken: {bundle.error}"))
    if not listed:
        print("no bundles; install one with: all-detect bundles install FILE_OR_URL")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print a bundle's card."""
    from napari_all_detect.bundle import load_any_bundle

    bundle = load_any_bundle(arguments.bundle)
    print(f"{bundle.label} in {bundle.folder}\ndigest {bundle.digest}\n")
    print(shown(bundle.card))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Check a bundle and say so."""
    from napari_all_detect.bundle import load_any_bundle

    bundle = load_any_bundle(arguments.bundle)
    print(f"{bundle.label}: schema and {len(bundle.manifest.weights_files)} digests are right")
    return 0


def tune(arguments: argparse.Namespace) -> int:
    """Measure how few bits give the same calls; print it."""
    from napari_all_detect.batch.tuning import tune_bundle
    from napari_all_detect.engines.precision import fastest_that_agrees

    engine, device = arguments.engine, arguments.device
    tuning = tune_bundle(arguments.bundle, arguments.inputs, lambda text: print(text, file=sys.stderr), engine, device)
    print(f"{tuning.processor}; milliseconds of one core, or of the GPU")
    print(f"{'precision':<30}{'ms a cell':>19}  same call  expected  kappa  mean, largest change of P(ALL)")
    for row in tuning.measured:
        print(
            f"{row.precision:<30}{row.ms_per_cell:>19.1f}{row.agreement.same_calls:>11.2%}"
            f"{row.agreement.expected:>10.2%}{row.agreement.kappa:>7.3f}"
            f"{row.agreement.mean_change:>11.4f} {row.agreement.largest_change:.4f}"
        )
    print(f"--precision auto takes {fastest_that_agrees(tuning).precision} from now on")
    return 0


def install(arguments: argparse.Namespace) -> int:
    """Install a bundle and say how to use it."""
    from napari_all_detect.bundle import Manifest, install_bundle

    bundle = install_bundle(arguments.bundle)
    option = "--bundle" if isinstance(bundle.manifest, Manifest) else "--segmentation"
    print(f"{bundle.label} is installed in {bundle.folder}; use it with {option} {bundle.manifest.name}")
    return 0
