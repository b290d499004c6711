"""The data sets: MNIST and IMDB from TensorFlow Datasets, built-in samples, images of digits."""
