"""The page of the playground: its parts, and what happens when one changes."""

import gradio as gr
import numpy as np

from recipes import demo
from recipes.run.command_line import UserError

TITLE = "Gated recurrent networks: a playground"
FONTS = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
#: Gradio's sketchpad begins without a tool: wait for its brush and take it.
TAKE_BRUSH = """() => {
  const wait = setInterval(() => {
    const brush = document.querySelector('button[aria-label="Brush"]');
    if (brush) { brush.click(); clearInterval(wait); }
  }, 100);
}"""
NO_RUN = "No run is finished yet. The button trains one on the built-in sample."


def serve(runs, host, port):
    """Show the page until Ctrl-C; return the exit status."""
    page = make_page(runs)
    theme = gr.themes.Default(font=FONTS, font_mono=MONOSPACE)
    page.queue().launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=theme,
        footer_links=[],
    )
    print(f"Open http://{host}:{port} in a browser; Ctrl-C ends.", flush=True)
    try:
        page.block_thread()
    finally:
        page.close(verbose=False)
    return 0


def make_page(runs):
    """Return the page, as Gradio's ``Blocks``."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}")
        with gr.Tab("Digit"):
            _digit_tab(page, runs)
        with gr.Tab("Review"):
            _review_tab(page, runs)
        page.load(js=TAKE_BRUSH)
    return page


def ink_of(sketch):
    """Return a sketch as dark ink on white, ``(height, width)``; None: no sketch."""
    layers = (sketch or {}).get("layers") or []
    opacity = [np.asarray(layer)[..., 3] for layer in layers if layer is not None]
    return 255 - np.max(opacity, axis=0) if opacity else None


def _choices(page, runs, recipe):
    """Make the two choices of runs, and the button that trains where there is none."""
    with gr.Row():
        first = gr.Dropdown([], label="Run", interactive=True)
        second = gr.Dropdown([], label="A second run beside it", interactive=True)
    train = gr.Button("Train one on the sample", variant="primary", visible=False)
    message = gr.Markdown(elem_id=f"message-{recipe}")

    def update():
        try:
            names = demo.finished_runs(runs, recipe)
        except UserError as error:
            return gr.Dropdown(), gr.Dropdown(), gr.Button(), str(error)
        return (
            gr.Dropdown(choices=names, value=names[0] if names else None),
            gr.Dropdown(choices=[demo.NONE, *names], value=demo.NONE),
            gr.Button(visible=not names),
            "" if names else NO_RUN,
        )

    def train_one(progress=gr.Progress()):  # noqa: B008 - as Gradio wants it
        progress(0, desc="starting")
        try:
            for share, line in demo.train_on_sample(recipe, runs):
                progress(share, desc=line)
        except UserError as error:
            return gr.Dropdown(), gr.Dropdown(), gr.Button(), str(error)
        return update()

    shown = [first, second, train, message]
    page.load(update, None, shown, api_name=False)
    train.click(train_one, None, shown, show_progress_on=first, api_name=False)
    return first, second, message


def _beside(show, count, first, second, *given):
    """Return a message, what ``show`` returns for both runs, and the second column.

    Where there is nothing to show, the second column is hidden.
    """
    results, message = [], ""
    for name in (first, second):
        made = [None] * count
        if name and name != demo.NONE:
            try:
                made = show(name, *given)
            except UserError as error:
                message = f"**{error}**"
        results += made
    column = gr.Column(visible=made[0] is not None)
    return [message if first else NO_RUN, *results, column]


def _digit_tab(page, runs):
    models = demo.Models("mnist", runs)
    first, second, message = _choices(page, runs, "mnist")

    def show(name, sketch, row):
        image = demo.digit_of(ink_of(sketch))
        path, model = models.load(name)
        reading = demo.read_drawing(model, path, image)
        said = reading.probabilities[row - 1]
        label = {str(digit): float(said[digit]) for digit in range(10)}
        return label, demo.drawn(demo.draw_rows, reading, row)

    def update(*given):
        return _beside(show, 2, *given)

    with gr.Row():
        with gr.Column(min_width=240):
            sketch = gr.Sketchpad(
                label="Draw a digit",
                type="numpy",
                image_mode="RGBA",
                canvas_size=(280, 280),
                height=380,
                layers=False,
                brush=gr.Brush(default_size=20, colors=["#000000"], color_mode="fixed"),
            )
            row = gr.Slider(
                1,
                demo.ROWS,
                value=demo.ROWS,
                step=1,
                precision=0,
                label="Rows that are read",
            )
        outputs = []
        for number in (1, 2):
            with gr.Column(min_width=240, visible=number == 1) as column:
                outputs += [
                    gr.Label(
                        label="What the network thinks after these rows",
                        num_top_classes=4,
                    ),
                    gr.Image(show_label=False, buttons=[]),
                ]
    gr.on(
        [sketch.change, row.change, first.change, second.change],
        update,
        [first, second, sketch, row],
        [message, *outputs, column],
        trigger_mode="always_last",
        show_progress="hidden",
        api_name=False,
    )


def _review_tab(page, runs):
    models = demo.Models("imdb", runs)
    first, second, message = _choices(page, runs, "imdb")

    def show(name, text):
        path, model = models.load(name)
        reading, layer, traces = demo.read_review(model, path, text)
        return demo.words_as_html(reading), demo.drawn(
            demo.draw_review, reading, layer, traces
        )

    def update(*given):
        return _beside(show, 2, *given)

    text = gr.Textbox(demo.EXAMPLE, label="A review", lines=4)
    read = gr.Button("Read it", variant="primary")
    outputs = []
    with gr.Row():
        for number in (1, 2):
            with gr.Column(visible=number == 1) as column:
                outputs += [gr.HTML(), gr.Image(show_label=False, buttons=[])]
    gr.on(
        [read.click, text.submit, first.change, second.change],
        update,
        [first, second, text],
        [message, *outputs, column],
        trigger_mode="always_last",
        show_progress="minimal",
        api_name=False,
    )
