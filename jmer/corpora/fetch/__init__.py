"""Downloads a corpus and unpacks it, so that both go on where they stopped when they are started again.

`remote` fetches a file over HTTP. `archive` unpacks tar and zip files, which `members` reads and `guard` bounds. `disk`
holds what they share: free space, write errors, small records, progress.

Files here may import `base`, and never jax. They know nothing of any particular corpus: `jmer.download` says which
files to fetch. Nothing that comes from the network or from an archive is trusted.
"""
