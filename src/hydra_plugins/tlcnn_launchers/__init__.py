"""The launchers that Hydra finds: where the runs of a sweep are trained."""
