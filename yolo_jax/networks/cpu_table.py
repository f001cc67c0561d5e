"""In which way a CPU convolves fastest; made by `yolo-jax bench convolution --write`."""

# (kernel size, stride, channels, filters): ways of the forward pass, of the gradients of the kernel
# and of the inputs, and of the forward pass in inference.
WAYS: dict[tuple[int, int, int, int], tuple[str, str, str, str]] = {
    (1, 1, 64, 32): ("product", "product", "product", "product"),
    (1, 1, 128, 64): ("product", "product", "product", "product"),
    (1, 1, 256, 128): ("product", "product", "product", "product"),
    (1, 1, 256, 255): ("product", "product", "product", "product"),
    (1, 1, 384, 128): ("product", "product", "product", "product"),
    (1, 1, 512, 255): ("product", "product", "product", "product"),
    (1, 1, 512, 256): ("product", "product", "product", "product"),
    (1, 1, 768, 256): ("product", "product", "product", "product"),
    (1, 1, 1024, 255): ("product", "product", "product", "product"),
    (1, 1, 1024, 256): ("product", "product", "product", "product"),
    (1, 1, 1024, 512): ("product", "product", "product", "product"),
    (3, 1, 3, 16): ("blocks", "xla", "product", "blocks"),
    (3, 1, 3, 32): ("blocks", "blocks", "xla", "blocks"),
    (3, 1, 16, 32): ("xla", "blocks", "xla", "xla"),
    (3, 1, 32, 64): ("xla", "winograd 4", "xla", "xla"),
    (3, 1, 64, 128): ("xla", "winograd 4", "xla", "xla"),
    (3, 1, 128, 256): ("winograd 2", "winograd 4", "winograd 4", "winograd 4"),
    (3, 1, 256, 512): ("winograd 4", "winograd 4", "winograd 4", "winograd 4"),
    (3, 1, 384, 256): ("winograd 4", "winograd 4", "winograd 4", "winograd 4"),
    (3, 1, 512, 1024): ("product", "winograd 2", "product", "product"),
    (3, 2, 32, 64): ("xla", "product", "product", "xla"),
    (3, 2, 64, 128): ("xla", "product", "product", "xla"),
    (3, 2, 128, 256): ("xla", "product", "xla", "xla"),
    (3, 2, 256, 512): ("product", "product", "xla", "product"),
    (3, 2, 512, 1024): ("product", "product", "product", "product"),
}
