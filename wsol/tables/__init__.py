"""Tables of papers: published numbers beside those of your runs."""
