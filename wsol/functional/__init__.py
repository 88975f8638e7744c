"""Pure functions: maps, boxes, overlap and geometry. They keep no state and know no network."""
