"""Data sets to files, one file a format."""
