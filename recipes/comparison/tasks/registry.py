"""All tasks by name: a name is enough to make the task again in another process."""

from recipes.comparison.tasks.adding import make_adding
from recipes.comparison.tasks.copy_memory import make_copy
from recipes.comparison.tasks.counting import ANBN, ANBNCN
from recipes.comparison.tasks.gradient import make_gradient
from recipes.comparison.tasks.mnist_pixels import make_mnist
from recipes.comparison.tasks.reviews import IMDB
from recipes.comparison.tasks.task import Defaults, Task
from recipes.comparison.tasks.temporal_order import make_temporal_order
from recipes.comparison.tasks.timing import make_delays, make_pulses
from recipes.comparison.tasks.waveform import WAVEFORM

_PIXELS = Defaults(steps=1000, batch_size=64, learning_rate=2e-3)

#: Name -> task.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        make_adding(50, steps=1500),
        make_adding(100, steps=3000),
        make_adding(200, steps=4000),
        make_adding(400, steps=4000),
        make_copy(20, steps=2000),
        make_copy(50, steps=3000),
        make_copy(100, steps=2000),
        make_copy(500, steps=1000),
        make_temporal_order(),
        ANBN,
        ANBNCN,
        make_delays(10, steps=800),
        make_delays(25, steps=3000),
        make_pulses("pulses", 10, (0,), steps=2000),
        make_pulses("pulses", 25, (0,), steps=4000),
        make_pulses("spikes", 10, (0, 1), steps=4000),
        make_pulses("spikes", 25, (0, 1), steps=4000),
        WAVEFORM,
        make_mnist("rows", Defaults(600, batch_size=64, learning_rate=3e-3), ()),
        make_mnist("pixels", _PIXELS, (0.989,)),
        make_mnist("permuted", _PIXELS, (0.902,)),
        IMDB,
        make_gradient(50, steps=1500),
    )
}

#: What `make compare` runs unless it is told other tasks: 75 minutes on two cores.
DEFAULT_TASKS = (
    "adding-50",
    "copy-20",
    "copy-100",
    "temporal-order-50",
    "anbn",
    "anbncn",
    "delays-10",
    "pulses-10",
    "waveform",
    "mnist-rows",
    "imdb",
    "gradient",
)
