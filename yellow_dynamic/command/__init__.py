"""The operator's command, `yellow-dynamic`: each part by its name, `app.py` puts them together."""
