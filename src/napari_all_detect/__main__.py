"""`python -m napari_all_detect`: the program `all-detect`."""

from napari_all_detect.cli import run

if __name__ == "__main__":
    run()
