"""Dialogues in, features out: the extractors and their registry.

An extractor has two halves. `prepare` runs in a worker process, beside the decoder, and never imports jax: it turns a
raw input (text, waveform or frames) into one small payload. `encode` runs in the main process, which owns the
accelerator: it turns a batch of payloads into feature vectors. An extractor with no heavy half does all its work in
one of the two and lets the other pass things on. Texts are short, so that both of their halves run in the main process.
An augmented view is an extractor that wraps another one and changes the raw input before it.
"""
