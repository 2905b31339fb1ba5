"""Who may come in: API tokens, people with passwords, people a provider vouches for; and their sessions."""
