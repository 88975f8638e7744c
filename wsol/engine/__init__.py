"""Training and evaluation: the LightningModule, the evaluation of a split, saved maps, and the predictor."""
