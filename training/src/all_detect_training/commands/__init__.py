"""The commands of `all-detect-train`, one a module: what it is asked, and what it then does."""
