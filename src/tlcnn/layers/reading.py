"""What a measure says about a unit: the type that records read and write."""

from tlcnn.records.measures import Reading

__all__ = ["Reading"]
