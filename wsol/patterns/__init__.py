"""What a network has learned: units with high weights for a class, and concepts that an SVM reads from features."""
