"""`auto`: the least spikes for a quality budget. Steps follow sensitivity, rounding counts spikes, and
weights are corrected for what the spikes leave out."""
