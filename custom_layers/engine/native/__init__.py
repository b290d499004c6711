"""The native kernel's C++ sources, and their library: where it is, how it is built."""
