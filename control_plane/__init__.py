"""The control plane: API, worker, command line and the typed client that flows use."""
