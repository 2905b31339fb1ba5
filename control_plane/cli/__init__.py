"""The `fleetloop` command: everything over `control_plane.client`; `up` and `demo` start the other programs."""
