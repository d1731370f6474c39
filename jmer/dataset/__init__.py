"""Datasets: how a corpus becomes a dataset directory, how the directory is read, and how its dialogues form batches.

`build` extracts a corpus by the options in `options` and reports the rows by `report`. `store` writes and reads the
directory, of which `manifest` owns `manifest.json` and `records` the layout of a record. `flat` and `plan` arrange a
split as arrays and its dialogues as batches. The folder may import `base`, `corpora`, `media`, `encoders` and
`features`, and never JAX. The files of a directory may only change together with `manifest.SCHEMA_VERSION`, except for
new entries of the manifest that a reader can do without.
"""
