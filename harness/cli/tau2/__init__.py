"""`harness tau2`: a file per verb."""
