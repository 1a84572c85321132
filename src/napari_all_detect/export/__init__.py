"""Tables and label images on disk, one module per format."""
