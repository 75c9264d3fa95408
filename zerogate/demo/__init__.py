"""The demonstration: a real small language model behind zerogate, and the story it tells."""
