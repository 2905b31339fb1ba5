"""Workloads: what is learned and simulated; each a folder with a `workload.yaml`, in any language."""
