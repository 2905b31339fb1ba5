"""Dataset versions: immutable manifests of what a model was trained on."""
