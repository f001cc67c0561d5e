"""Scripts in keras-yolo3's manner."""
