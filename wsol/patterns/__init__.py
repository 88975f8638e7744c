"""What a network has learned: units that speak for a class, and concepts that a linear SVM reads from its features."""
