"""What the whole package stands on: errors, files, paths, options, types, labels, the command line, masks and products.

Code here imports nothing else of jmer, and every other folder may import it. `masks.py` and `products.py` need JAX; all
other modules are plain Python and numpy, so that decoding workers and argument parsing stay free of JAX. A module
belongs here only if several folders need it.
"""
