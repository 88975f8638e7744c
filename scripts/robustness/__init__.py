"""The robustness campaign: malformed input, killed processes, full disks. See docs/reliability.md."""
