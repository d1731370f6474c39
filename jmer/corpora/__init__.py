"""Reads corpora: tables and archives in, `jmer.base.types.Corpus` out.

`meld` reads MELD and corpora laid out like it, `ravdess` RAVDESS's clips, `sample` the corpus that comes with jmer, and
`table` any CSV file, whose columns `header` finds and whose clips `clips` looks at. `transcript` reads who says what in
one recording, from the files that `cuefile` reads. `csvfile` is what all tables share. `fetch` downloads and unpacks
archives.

Files here may import `base` and `media`, and never jax. Each source reports damage in its notes and keeps the damaged
rows. A new corpus is one new file with a function `load` that returns a `Corpus`.
"""
