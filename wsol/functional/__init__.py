"""Pure functions: maps, boxes, overlap and geometry. Nothing here keeps state or knows a network."""
