"""A comparison of the cells by what they remember."""
