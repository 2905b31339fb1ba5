"""Back ends of clusters: local, Slurm, Ray, Kubernetes, OSMO, behind one interface."""
