"""Text extractors: `lite` without learned weights, `glove` by word vectors, and `encoder` by a published encoder.

The modules may import the protocol (`features.extractor`, `features.summary`), `base` and `encoders`, but no other
extractor's folder. Libraries that take long to import are imported inside functions, since every command that reads
the options of an extraction imports these modules. A new text extractor is a new module here.
"""
