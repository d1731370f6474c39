"""Published encoders: networks in Flax, their weights, and the code that runs them over batches.

A file named after an architecture (`wav2vec2`, `whisper`, `face_expression`) holds its network and nothing else; blocks
that several networks share are in `layers`. `hub` finds the directory of a model, and `published` reads its weights.
`batching` groups inputs of like length. `speech_input` turns a waveform into the input of a speech encoder, and
`speech` runs such an encoder. `huggingface` runs text and image encoders through transformers, and no other file of
jmer imports transformers.

Files here may import `base`, `media` and `corpora`. Worker processes import `hub`, `batching` and `speech_input`, which
therefore never import jax. A new architecture is one new file beside `wav2vec2`, and a line in the file that runs it.
"""
