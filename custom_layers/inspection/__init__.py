"""What a layer computes, and on which kernel."""
