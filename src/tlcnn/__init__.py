"""tlcnn: which layers of a CNN to transfer, which to freeze, and how sure you can be."""

__version__ = "0.1.0"
