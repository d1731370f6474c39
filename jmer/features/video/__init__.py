"""Video extractors: `lite` by the shipped face-expression network, `embedding` by an ONNX file, and `encoder` by ViT.

`frames` holds the options and steps that they share, `images` the pictures as a published model reads them. The modules
may import the protocol (`features.extractor`, `features.summary`), `base`, `media` and `encoders`, but no other
extractor's folder. Their `prepare` runs in workers, so that JAX is imported inside `encode` or not at all. A new video
extractor is a new module here.
"""
