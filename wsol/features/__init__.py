"""Image features: a network's pooled features of whole images and of crops, and linear SVMs on them."""
