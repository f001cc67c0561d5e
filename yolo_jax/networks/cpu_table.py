"""In which way a CPU convolves fastest; made by `yolo-jax bench convolution --write`."""

# (kernel size, stride, channels, filters): ways of the forward pass, and of the gradients of the
# kernel and of the inputs.
WAYS: dict[tuple[int, int, int, int], tuple[str, str, str]] = {
    (1, 1, 64, 32): ("product", "product", "product"),
    (1, 1, 128, 64): ("product", "product", "product"),
    (1, 1, 256, 128): ("product", "product", "product"),
    (1, 1, 256, 255): ("product", "product", "product"),
    (1, 1, 384, 128): ("product", "product", "product"),
    (1, 1, 512, 255): ("product", "product", "product"),
    (1, 1, 512, 256): ("product", "product", "product"),
    (1, 1, 768, 256): ("product", "product", "product"),
    (1, 1, 1024, 255): ("product", "product", "product"),
    (1, 1, 1024, 256): ("product", "product", "product"),
    (1, 1, 1024, 512): ("product", "product", "product"),
    (3, 1, 3, 16): ("xla", "xla", "product"),
    (3, 1, 3, 32): ("xla", "product", "xla"),
    (3, 1, 16, 32): ("xla", "winograd 4", "xla"),
    (3, 1, 32, 64): ("xla", "winograd 4", "xla"),
    (3, 1, 64, 128): ("winograd 4", "winograd 4", "winograd 4"),
    (3, 1, 128, 256): ("winograd 2", "winograd 4", "winograd 2"),
    (3, 1, 256, 512): ("winograd 2", "winograd 2", "winograd 2"),
    (3, 1, 384, 256): ("winograd 4", "winograd 4", "winograd 4"),
    (3, 1, 512, 1024): ("product", "winograd 2", "product"),
    (3, 2, 32, 64): ("xla", "product", "product"),
    (3, 2, 64, 128): ("xla", "product", "product"),
    (3, 2, 128, 256): ("xla", "product", "xla"),
    (3, 2, 256, 512): ("product", "product", "product"),
    (3, 2, 512, 1024): ("product", "product", "product"),
}
