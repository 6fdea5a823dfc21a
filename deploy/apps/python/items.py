"""/docs as FastAPI makes it, but for its scripts, which come from the package and not from elsewhere."""

import os

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles

app = FastAPI(docs_url=None)
app.mount("/static", StaticFiles(directory=os.environ["APPS"] + "/node_modules/swagger-ui-dist"))


@app.get("/items/")
def items():
    return ["one"]


@app.get("/docs", include_in_schema=False)
def docs():
    return get_swagger_ui_html(openapi_url=app.openapi_url, title="docs",
                               swagger_js_url="static/swagger-ui-bundle.js", swagger_css_url="static/swagger-ui.css")
