"""Decodes clips: a file in, RGB frames and a 16 kHz mono waveform out.

`decoding` opens the files. `guards` says what a file may be before it is decoded. `sound` loads librosa so that
processes can share what it compiles. `vision` finds the faces in the frames.

Files here may import `base`, and never jax, because worker processes run all of them. A new format or a new kind of
damage belongs in `decoding`, which reports damage and never hides it.
"""
