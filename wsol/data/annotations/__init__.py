"""Readers of annotation files: text tables, boxes in CSV and COCO, the ways of ILSVRC."""
