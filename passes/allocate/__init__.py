"""`auto`: the least spikes for a quality budget. Steps follow sensitivity, and rounding counts spikes."""
