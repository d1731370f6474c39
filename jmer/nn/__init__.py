"""The model: encoders over utterances, graph layers, fusion, and the one assembled network.

Modules here hold parameters and nothing else; they may import `base` and `graph`. Every module takes its options as one
frozen dataclass (`nn/options.py`), and what it needs to know of a batch as one value (`Rows`). This is the place for a
new
encoder, graph layer or fusion: add its name to the choices in `options.py` and its module beside the others.
"""
