"""YOLOv3's networks as Flax NNX modules, and Darknet's weight files."""
