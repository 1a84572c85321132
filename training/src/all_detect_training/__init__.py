"""Train ensembles on cells by class, measure them, and pack them into bundles for napari-all-detect."""

__version__ = "0.1.0"
