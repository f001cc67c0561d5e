"""Scores of detections against annotations, by COCO's rules."""
