"""The optimizer: AdamW with warm-up, cosine decay and clipping."""

import jax
import optax


def make_optimizer(
    *, lr: float, total_steps: int, warmup: float, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """Returns AdamW (Loshchilov & Hutter 2019).

    Args:
      lr: peak learning rate, reached after `warmup` (a share of `total_steps`), then decayed to zero.
      weight_decay: of weight matrices; biases and scales, which have one axis, are left alone.
      clip_norm: the gradients' global norm is cut to it.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=lr, warmup_steps=int(warmup * total_steps), decay_steps=total_steps
    )
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),
        optax.adamw(
            schedule, weight_decay=weight_decay, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params)
        ),
    )
