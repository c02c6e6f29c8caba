"""The sweeper that Hydra finds: grids, lists of grid blocks, resumed by identity."""
