"""One module for each family of nouns; each noun is a group of verbs."""
