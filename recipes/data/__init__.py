"""The data: MNIST and IMDB, built-in samples, images of digits."""
