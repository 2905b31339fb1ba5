"""What orders the work: Prefect flows over job runners, speaking with the control plane through its client only."""
