"""How a step's body is compiled."""

from yolo_jax.training import compiled_step


def test_a_step_on_cpu_is_ordered_for_the_least_memory(monkeypatch):
    options = compiled_step.compiler_options.__wrapped__
    assert options("cpu") == {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    assert options("tpu") is None
    # XLA's options come and go; a step does without.
    monkeypatch.setattr(compiled_step, "_LEAST_MEMORY", {"xla_cpu_no_such_option": "1"})
    assert options("cpu") is None
