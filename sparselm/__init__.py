"""sparselm."""
