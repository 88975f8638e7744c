"""Files that go out to other programs and come back: saved maps, predicted classes, the ILSVRC challenge's format."""
