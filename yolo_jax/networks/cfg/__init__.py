"""Darknet's `.cfg` files: read, checked and built as networks."""
