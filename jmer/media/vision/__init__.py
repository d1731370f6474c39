"""Finds faces in frames: where they are, which of them is the same person, who speaks.

`faces` has the built-in detector and the crops, `onnx_faces` detectors and embeddings from ONNX files. `tracks` follows
each face through a clip, and `speaking` chooses the face whose mouth follows the sound.

Files here may import `base`, and never jax, because worker processes run all of them. A new detector is a function from
frames to `faces.Faces`.
"""
