"""Sparse Cholesky factorisation of block matrices by supernodes."""
