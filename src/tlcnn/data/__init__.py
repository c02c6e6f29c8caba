"""Images: where they are, what they show, how they are split, cached and augmented."""
