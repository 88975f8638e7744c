"""Networks: a localizer of backbone, head and edits, and classifiers of torchvision and timm."""
