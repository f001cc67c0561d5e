"""One file a format, each yielding the same `Annotation`."""
