"""How a step's body is compiled."""

from yolo_jax.training import parallel


def test_a_step_on_cpu_is_ordered_for_the_least_memory(monkeypatch):
    options = parallel.compiler_options.__wrapped__
    assert options("cpu") == {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    assert options("tpu") is None
    # XLA's options come and go; a step does without.
    monkeypatch.setattr(parallel, "_LEAST_MEMORY", {"xla_cpu_no_such_option": "1"})
    assert options("cpu") is None
