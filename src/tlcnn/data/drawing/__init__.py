"""Pictures drawn from numbers: skin lesions and natural textures, without torch.

Every picture is a pure function of its seeds, drawn natively at any size with the same layout.
"""
