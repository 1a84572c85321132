"""Train the network that finds cells, on images with masks, and measure any method of finding them."""
