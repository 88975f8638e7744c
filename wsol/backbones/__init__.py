"""Networks whose features are read, and edited, at named points. One file a family; `base.py` holds what they share."""
