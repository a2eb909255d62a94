"""Benchmarks of sparselm, run by asv; see the README beside this folder."""
