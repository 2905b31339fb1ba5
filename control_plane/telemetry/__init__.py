"""What devices did: exposure, field events, recordings."""
