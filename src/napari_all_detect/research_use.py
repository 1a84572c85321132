"""What pages, cards and command lines say of their use."""

__all__ = ["RESEARCH_USE"]

RESEARCH_USE = "For research use only. Not for diagnosis or any clinical decision."
