"""Layers of napari as images, planes and label images: what they hold, and where it is from. No Qt."""
