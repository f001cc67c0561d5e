"""Boxes, anchors and the records that travel from files to reports."""
