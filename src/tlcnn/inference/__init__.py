"""Trained networks on any images: predictions, features, exported networks.

    words of a command line -> ImageList --+
    run folder -> Network -----------------+-> iter_outputs: logits, features of every image

`iter_outputs` is the one road from images to logits. It imports torch.
"""
