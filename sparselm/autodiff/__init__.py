"""From a user's function of one residual block to compiled loops over all blocks, with exact derivatives."""
