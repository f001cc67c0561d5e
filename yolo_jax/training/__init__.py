"""The train step, how it is spread over devices, its optimizers and its checkpoints."""
