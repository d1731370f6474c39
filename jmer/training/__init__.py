"""Training, as pure functions: losses, sampling, optimiser, metrics, compiled steps, devices and checkpoints.

Nothing here knows of a run directory or a command line. Code may import `base`, `dataset`, `graph` and `nn`. This is
the
place for a new loss, a new sampler or another optimiser: declare its options in `options.py`, add the code beside the
others, and use it in `objective.py` or `optim.py`.
"""
