"""The command line of ``python -m localkube``."""

from __future__ import annotations

import argparse
import ipaddress
import logging
from collections.abc import Sequence
from pathlib import Path

from localkube._launch import Machine
from localkube._server import run
from localkube._validation import is_env_name


def _loopback(text: str) -> str:
    host = "127.0.0.1" if text == "localhost" else text
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a loopback address: whoever reaches localkube can run commands as "
            "you, so it listens on 127.0.0.1 or ::1 only"
        )
    return host


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _image(text: str) -> tuple[str, Path]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=BIN_DIR")
    if not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{folder!r}, the folder of image {name!r}, is no folder")
    return name, Path(folder).absolute()


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not is_env_name(name):
        # The value may be something that is not for the terminal.
        raise argparse.ArgumentTypeError(f"{name!r} is not the NAME of a NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="localkube",
        description="A Kubernetes API on loopback that runs each pod as a local process.",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the kubeconfig, volumes and logs",
    )
    parser.add_argument(
        "--host", type=_loopback, default="127.0.0.1", help="loopback address (default: 127.0.0.1)"
    )
    parser.add_argument("--port", type=_port, default=0, help="port, 0 for any free one (default)")
    parser.add_argument(
        "--image",
        type=_image,
        action="append",
        default=[],
        metavar="NAME=BIN_DIR",
        help="an image, exactly as pods name it, and the folder with its executables",
    )
    parser.add_argument(
        "--env",
        type=_variable,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="environment for every pod; shows in the process list, so not for passwords",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop.

    Args:
        argv: the command line without the program's name; the process's own by default.

    Returns:
        The exit status: 0 after a stop by SIGTERM or SIGINT, 1 if the server could not start.
        Wrong arguments end the process with 2.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="localkube: %(levelname)s: %(message)s")
    machine = Machine(options.state_dir.absolute(), dict(options.image), dict(options.env))
    return run(machine, options.host, options.port)
