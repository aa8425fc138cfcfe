"""Task scores of the ANN and the SNN of a compiled folder, side by side, from local data."""
