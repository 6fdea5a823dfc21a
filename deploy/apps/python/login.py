"""Logins as of Flask's tutorial. ProxyFix is what Flask's documentation asks for behind a proxy."""

from flask import Flask, redirect, request, session, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
app.secret_key = "the same for all sessions, as in an image"
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)


@app.get("/")
def index():
    if "user" not in session:
        return redirect(url_for("login"))
    session["visits"] = session.get("visits", 0) + 1
    return f"<p id=text>{session['user']} {session['visits']}"


@app.route("/login", methods=["GET", "POST"])
def login():
    if request.method == "POST":
        session["user"] = request.form["user"]
        return redirect(url_for("index"))
    return f'<form method=post action="{url_for("login")}"><input name=user><button>Log in</button></form>'
