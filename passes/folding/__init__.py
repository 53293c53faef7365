"""The rewrites that the `fold` pass is made of."""
