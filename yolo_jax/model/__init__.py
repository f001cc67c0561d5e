"""Keras's surface: graphs of layers, `Model`, losses, callbacks and the one training loop."""
