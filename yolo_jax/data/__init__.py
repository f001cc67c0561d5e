"""From files to batches on the device: readers, images, the pipeline, augmentation."""
