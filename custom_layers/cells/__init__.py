"""One file a variant: its equations, as a cell and as a drop-in layer."""
