"""Set side by side: each side is a child process that works when it is told to."""
