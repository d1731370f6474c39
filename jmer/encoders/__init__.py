"""Published encoders: networks in Flax, their weights, and the code that runs them over batches.

A file named after an architecture (`bert`, `vit`, `wav2vec2`, `whisper`, `face_expression`) holds its network and
nothing else; `layers` holds the transformer layer that they share, and `running` says how a network is run. `hub`
finds the directory of a model, `opened` tells what it is (published, fine-tuned, or `adapters`), and `published` reads
and writes weights. `tokenizer` turns texts into token ids, and no other file of jmer imports transformers; `passages`
joins the turns of a dialogue. `speech_input` turns a waveform into the input of a speech encoder. `batching` groups
inputs of like length, and `text`, `image` and `speech` run encoders over such batches, all by `encoder`.

Files here may import `base`, `media` and `corpora`. Worker processes import `hub`, `opened`, `adapters`, `passages`,
`running`, `tokenizer`, `batching` and `speech_input`, which therefore never import jax. A new architecture is one new
file beside `bert`, and a line in the file that runs it.
"""
