"""`zerogate demo`: a real model from zero to one and back, told while it happens. Everything shown is measured."""
