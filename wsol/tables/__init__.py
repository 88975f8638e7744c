"""Tables of papers: published numbers, the runs that stand for them, and both side by side."""
