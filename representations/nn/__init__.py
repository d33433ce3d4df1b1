"""Hold representations in torch modules: layers, whole models, and what makes one of the other."""
