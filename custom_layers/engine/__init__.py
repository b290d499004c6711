"""How a cell becomes a layer, and how the layer runs over its sequence."""
