"""What tells a good preparation from a wrong one: measures, thresholds, pictures, one page of all people."""
