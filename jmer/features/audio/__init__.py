"""Audio extractors: `lite` without learned weights, and `encoder` by a published speech encoder.

The modules may import the protocol (`features.extractor`, `features.summary`), `base`, `media` and `encoders`, but no
other extractor's folder. Their `prepare` runs in workers, so that JAX is imported inside `encode` or not at all; other
libraries that take long to import are imported inside functions too. A new audio extractor is a new module here.
"""
