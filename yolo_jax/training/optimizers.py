"""Optimizers and schedules from plain numbers, which weights decay, and which are frozen."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.typing import ArrayLike
from jaxtyping import Array, Float

PyTree = Any
_ADAMS_RMS = 0.2  # root mean square of its updates, as the paper measured


OptimizerKind = Literal["adam", "adamw", "sgd", "lion", "muon", "lamb", "lars"]


def learning_rate_schedule(
    kind: Literal["constant", "cosine", "step"],
    peak: float | Array,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    final_fraction: float | Array = 0.0,
    step_at: Sequence[float] = (0.8, 0.9),
    step_factor: float | Array = 0.1,
) -> optax.Schedule:
    """Returns a learning rate by step: a linear warm-up, then the schedule; flat past its end.

    Rates, fractions and factors may be traced.

    Args:
        kind: `constant`, `cosine` from the peak to `final_fraction` of it, or `step`.
        peak: the rate after the warm-up.
        total_steps: warm-up included.
        warmup_steps: from 0 to the peak.
        final_fraction: last rate / peak.
        step_at: shares of the whole behind which the rate is multiplied by the factor, as by
            `steps` and `scales` of darknet's yolov3.cfg.
        step_factor: of each of these steps.

    Raises:
        ValueError: the warm-up is longer than the whole.
    """
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"a schedule of {total_steps} steps cannot have a warm-up of {warmup_steps}"
        )
    match kind:
        case "constant":
            main = optax.constant_schedule(peak)
        case "cosine":
            steps = max(total_steps - warmup_steps, 1)
            main = optax.cosine_decay_schedule(peak, steps, alpha=final_fraction)
        case "step":
            # Those within the warm-up count behind it.
            bounds = [max(round(share * total_steps) - warmup_steps, 0) for share in step_at]
            main = partial(_stepped, peak=peak, bounds=bounds, factor=step_factor)
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def _stepped(
    step: ArrayLike, *, peak: float | Array, bounds: Sequence[int], factor: float | Array
) -> Float[Array, ""]:
    """Returns the peak times the factor for each of the steps that are reached.

    `optax.piecewise_constant_schedule` is the same, but asks of the factor whether it is negative.
    """
    rate = jnp.asarray(peak, jnp.float32)
    for bound in bounds:
        rate = jnp.where(jnp.asarray(step) >= bound, rate * factor, rate)
    return rate


def build_optimizer(
    kind: OptimizerKind,
    schedule: optax.Schedule,
    *,
    momentum: float | Array = 0.9,
    weight_decay: float | Array = 0.0,
    clip_norm: float | Array | None = None,
    settable_rate: float | None = None,
) -> optax.GradientTransformation:
    """Builds an optimizer, whose numbers may be traced.

    SGD (with Nesterov's momentum) and LARS add the decay to the gradient; AdamW (of which Adam is
    another name), Lion (Chen et al., arXiv:2302.06675), Muon and LAMB take it off the weights. LARS
    scales the update of kernels alone by the norm of the weights over that of the gradient, as You
    et al. do (Large Batch Training of Convolutional Networks, equation 6, with their 0.001). Muon
    makes the update of each kernel orthogonal, as a matrix of its filters, to a size like Adam's
    (Liu et al., arXiv:2502.16982, equation 4), and has Adam for the rest.

    Args:
        kind: which.
        schedule: learning rate by step; its share by step where there is a `settable_rate`.
        momentum: of SGD and Muon; the first moment of the others.
        weight_decay: on kernels alone, never on biases or normalisation.
        clip_norm: largest global norm of the gradient, or None.
        settable_rate: learning rate that lies in the optimizer's state, where callbacks read and
            set it as `model.optimizer.lr`, and a checkpoint keeps it; or None.
    """
    steps: list[optax.GradientTransformation] = []
    if clip_norm is not None:
        steps.append(optax.clip_by_global_norm(clip_norm))
    decay = optax.add_decayed_weights(weight_decay, mask=kernel_mask)
    match kind:
        case "adam" | "adamw":
            steps += [optax.scale_by_adam(b1=momentum), decay]
        case "lion":
            steps += [optax.scale_by_lion(b1=momentum), decay]
        case "muon":
            muon = optax.contrib.muon(
                -1.0,  # its sign; the rate follows below
                beta=momentum,
                weight_decay=weight_decay,
                weight_decay_mask=kernel_mask,
                adam_b1=momentum,
                muon_weight_dimension_numbers=_kernels_as_matrices,
                consistent_rms=_ADAMS_RMS,
            )
            steps.append(muon)
        case "lamb":
            steps += [
                optax.scale_by_adam(b1=momentum, eps=1e-6),
                decay,
                optax.scale_by_trust_ratio(),
            ]
        case "lars":
            trust = optax.scale_by_trust_ratio(trust_coefficient=1e-3)
            steps += [decay, optax.masked(trust, kernel_mask), optax.trace(decay=momentum)]
        case "sgd":
            steps += [decay, optax.trace(decay=momentum, nesterov=True)]
    steps.append(optax.scale_by_learning_rate(schedule))
    if settable_rate is not None:
        injected = optax.inject_hyperparams(_scale, hyperparam_dtype=jnp.float32)
        steps.append(injected(learning_rate=settable_rate))
    return optax.chain(*steps)


def _scale(learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
    """Multiplies updates by a number, under the name that `model.optimizer.lr` is found by."""
    return optax.scale(learning_rate)  # type: ignore[arg-type]  # an array does as well


def _kernels_as_matrices(params: PyTree) -> PyTree:
    """Returns for each kernel, HWIO, how it is a matrix of outputs by all else; None for others."""
    matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda is_kernel: matrix if is_kernel else None, kernel_mask(params))


def kernel_mask(params: PyTree) -> PyTree:
    """Returns True for the kernels of a pytree of parameters: arrays named `kernel`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: parameter_path(path).endswith("kernel"), params
    )


def parameter_path(path: tuple[Any, ...]) -> str:
    """Returns a parameter's path as `body/blocks/0/kernel`."""
    keys = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", None))) for key in path)
    return "/".join(str(key) for key in keys if key not in (None, "value"))


def not_matching(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """Returns False for the parameters whose path matches a pattern, True for the others."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(fnmatchcase(parameter_path(path), p) for p in patterns), params
    )


def trainable_mask(params: PyTree, frozen: Iterable[str]) -> PyTree:
    """Returns False for the parameters that a pattern freezes, True for the others.

    Args:
        params: a pytree of parameters.
        frozen: patterns of paths, with `*` for anything: `*body/*`.

    Raises:
        ValueError: a pattern freezes nothing, or the patterns freeze all.
    """
    patterns = (frozen,) if isinstance(frozen, str) else tuple(frozen)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = [parameter_path(path) for path, _ in leaves]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise ValueError(
                f"freezing {pattern!r} matches no parameter; their paths look like "
                f"{', '.join(paths[:3])}"
            )
    mask = not_matching(params, patterns)
    if patterns and not any(jax.tree.leaves(mask)):
        raise ValueError(f"freezing {patterns} leaves no parameter to train")
    return mask
