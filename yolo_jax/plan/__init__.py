"""What a config costs on machines that need not be here: `yolo-jax plan`."""
