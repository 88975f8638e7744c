"""From published archives to a verified dataset."""
