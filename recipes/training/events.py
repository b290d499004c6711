"""Events for TensorBoard."""

import contextlib

import keras
import tensorflow as tf

from recipes.run.files import tensorflow_reason


class EventLog(keras.callbacks.Callback):
    """Writes every validation's figures for TensorBoard, which may be missing."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.scalars = tf.compat.v1.SummaryMetadata()
        self.scalars.plugin_data.plugin_name = "scalars"

    def on_train_begin(self, logs=None):
        """Open the file."""
        with self.errors():
            self.writer = tf.summary.create_file_writer(str(self.folder))

    @contextlib.contextmanager
    def errors(self):
        """Turn an error of TensorFlow, a full disk often, into an OSError."""
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(
                f"cannot write events to {self.folder}: {tensorflow_reason(error)}"
            ) from error

    def on_epoch_end(self, epoch, logs=None):
        """Write one event for each figure, at the number of steps taken."""
        step = int(self.model.optimizer.iterations.numpy())
        with self.errors():
            with self.writer.as_default():
                for name, value in logs.items():
                    tf.summary.write(
                        name, tf.constant(value, "float32"), step, self.scalars
                    )
            self.writer.flush()

    def on_train_end(self, logs=None):
        """Close the file."""
        with self.errors():
            self.writer.close()
