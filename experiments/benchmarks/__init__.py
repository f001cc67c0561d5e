"""Measurements that the README quotes, each a command: `yolo-jax bench NAME`."""
