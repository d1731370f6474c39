"""Dialogues in, features out: the protocol of an extractor, the extractors, and the engine that runs them.

An extractor has two halves. `prepare` runs in a worker process, beside the decoder, and never imports JAX: it turns a
raw input (text, waveform or frames) into one small payload. `encode` runs in the main process, which owns the
accelerator: it turns a batch of payloads into feature vectors. An extractor without a heavy half does all its work in
one of the two and passes results on in the other. Texts are short, so that both of their halves run in the main
process. An augmented view is an extractor that perturbs its input and hands it to another extractor.

The folder may import `base`, `media`, `encoders` and the readers of tables of `corpora`. A new extractor is one module
in `text`, `audio` or `video`, with its options as fields, and its class in the tuple of `registry`; config, checks and
help follow. `ready` and `readyfile` read features that another program made. Whoever changes the features that an
extractor gives raises its `version`. The engine and the cache know no extractor by name. `processes` runs `worker` in
processes that can be ended one by one, each on the `leash` of its limits.
"""
