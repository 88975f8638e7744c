"""Training and evaluation: the LightningModule, what is measured on a split, saved maps, and the predictor."""
