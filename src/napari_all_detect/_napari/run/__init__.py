"""From a press of a button to new layers. No Qt."""
