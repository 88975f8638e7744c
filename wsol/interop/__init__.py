"""Exchange with other programs: saved maps, predicted classes, the ILSVRC challenge's format, exported networks."""
