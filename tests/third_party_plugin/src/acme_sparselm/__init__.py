"""A damping strategy and a residual that sparselm finds through this package's entry points."""
