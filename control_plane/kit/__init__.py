"""What every slice stands on. No domain words live here."""
