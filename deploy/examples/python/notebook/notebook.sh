#!/bin/sh
# JupyterLab as a backend: one for each notebook's key, in origin mode, for it speaks of paths that begin with /.
# The proxy has let the visitor in, so JupyterLab asks for no token. What is to outlive it lies in NOTEBOOKS. Arguments are JupyterLab's.
exec jupyter lab --no-browser --ip "$HOST" --port "$PORT" --ServerApp.root_dir "${NOTEBOOKS:-$HOME}" \
  --IdentityProvider.token= --ServerApp.allow_remote_access=True --allow-root "$@"
