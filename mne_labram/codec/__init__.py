"""A codec for recordings: the file format, the coders of its blocks, and what users call."""
