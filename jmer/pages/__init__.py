"""HTML pages that need nothing else: pictures are SVG, and styles and scripts lie within the file.

A page makes no request to anywhere, except for a video or sound that lies beside it. Texts from outside, such as those
of transcripts, are escaped, and a policy in the page lets no other script run than jmer's own.
"""
