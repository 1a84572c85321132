"""Files of images, labels and scores as layers, and scored layers as files. No Qt."""
