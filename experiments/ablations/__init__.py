"""One file a sweep, each with `get_config()` and `sweep()`."""
