"""The console command, a file for each subcommand."""

from yolo_jax.cli.command import main, make_parser, use_compilation_cache

__all__ = ["main", "make_parser", "use_compilation_cache"]
