"""A workload on recorded human drivers: cars on recorded paths among replayed traffic. Its data is the user's."""
