"""The Jinja templates; a package, so that an installed distribution carries them."""
