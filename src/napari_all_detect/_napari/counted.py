"""How numbers of cells are told. No Qt."""

__all__ = ["n_cells"]


def n_cells(n: int) -> str:
    """Return for instance `1 cell` or `7 cells`."""
    return f"{n} {'cell' if n == 1 else 'cells'}"
