"""The process that runs the networks, and what it and napari say to each other. No Qt."""
