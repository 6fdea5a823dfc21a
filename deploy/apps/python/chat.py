import os

import gradio

gradio.Interface(lambda name: f"Hello {name}!", gradio.Textbox(label="name"), gradio.Textbox(label="greeting")).launch(
    server_name="127.0.0.1", server_port=int(os.environ["PORT"]), ssr_mode=False)
