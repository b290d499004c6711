"""One run of a program: its command line, its folder, its environment."""
