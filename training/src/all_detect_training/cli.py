"""How `all-detect-train` starts: interrupted at any moment, also while it is imported, it ends with one line."""

from collections.abc import Callable, Sequence

from napari_all_detect.cli import run_as

__all__ = ["main", "run"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `all-detect-train` in this process: see `program.main`."""
    from all_detect_training import program

    return program.main(argv)


def run() -> None:
    """Run `all-detect-train` as a program."""

    def imported() -> Callable[[], None]:
        from all_detect_training import program

        return program.run

    run_as("all-detect-train", imported)
