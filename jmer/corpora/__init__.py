"""Reads corpora: tables and archives in, `jmer.base.types.Corpus` out.

`meld` reads MELD and corpora laid out like it, `ravdess` RAVDESS's clips, `sample` the corpus that comes with jmer, and
`table` any CSV file. `csvfile` is what they share. `fetch` downloads and unpacks archives.

Files here may import `base` and `media`, and never jax. Each source reports damage in its notes and keeps the damaged
rows. A new corpus is one new file with a function `load` that returns a `Corpus`.
"""
