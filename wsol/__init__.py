"""`wsol`: weakly supervised object localization, trained from image-level labels, judged by where the object is."""

__version__ = "0.1.0"
