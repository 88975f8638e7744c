"""Modules (N, C, h, w) to the same, inserted after a named point of a backbone; identity in eval. One file each."""
