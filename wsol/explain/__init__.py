"""Map makers: what in an image speaks for a class, asked of any localizer or plain classifier."""
