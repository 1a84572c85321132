"""Widgets: they show and pass on, and decide nothing."""
