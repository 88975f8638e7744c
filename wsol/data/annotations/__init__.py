"""Readers of annotation files: text tables, boxes in CSV and COCO, ILSVRC's formats."""
