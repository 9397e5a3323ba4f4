"""Can each network do what its paper says? Its head against controls that a skeptic would choose, on drawn clips."""
