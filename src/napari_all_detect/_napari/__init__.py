"""All that imports napari, Qt or magicgui; the manifest names it, nothing else does."""
