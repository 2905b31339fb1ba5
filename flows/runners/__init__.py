"""The hands of the flows: workloads read, jobs run on clusters, runs reported."""
