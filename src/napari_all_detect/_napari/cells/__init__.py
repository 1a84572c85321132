"""The scored cells of a labels layer: what is known of them, how they are ordered, coloured and judged. No Qt."""
