"""What both reference workloads share: job folders, frames, bundles, suites, recordings, noise, learning."""
