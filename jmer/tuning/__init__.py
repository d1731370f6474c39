"""Fine-tuning of published encoders: whole dialogues as rows of tokens, adapters or all weights, and what is left.

`options` declares the options, `rows` packs dialogues into rows, `classifier` puts heads on an encoder, `fit` trains
them, and `export` writes a directory that `jmer.extract` reads like a published model. Files here may import every
folder above.
"""
