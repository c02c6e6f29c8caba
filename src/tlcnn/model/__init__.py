"""Networks: their units, how they are built, initialised, frozen and cut."""
