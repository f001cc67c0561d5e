"""`python -m yolo_jax` is `yolo-jax`."""

import sys

from yolo_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
