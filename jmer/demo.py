"""Serves a page on which a video with its transcript, or a dialogue that is typed, becomes a timeline of emotions.

    python -m jmer.demo [--workdir=runs/x] [--port=8765]

The page needs `pip install 'jmer[demo]'`. It is for this machine alone unless --host names an address of it; there is
no login. Uploads are read one after another, in a process that is ended if one takes too long. They are removed after
a while, and all of them when the command ends.
"""

import logging
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jmer.base import cli
from jmer.base.errors import UserError

_log = logging.getLogger("jmer.demo")

_MOST_CONNECTIONS = 200
_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def main(argv: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, prog="jmer demo")
    parser.add_argument(
        "--workdir", type=Path, action="append", default=[], help="run directory of jmer.train; repeatable"
    )
    parser.add_argument("--model", choices=("starter",), default="starter", help="model that jmer ships")
    parser.add_argument("--encoders", type=Path, help="folder with one folder for each public encoder")
    parser.add_argument("--host", default="127.0.0.1", help="address that is listened on (default: this machine's own)")
    parser.add_argument("--port", type=int, default=8765, help="port that is listened on; 0 takes a free one")
    parser.add_argument("--name", action="append", default=[], help="name of the page's address; repeatable")
    parser.add_argument("--most-megabytes", type=int, default=500, help="size of an upload (default 500)")
    parser.add_argument("--most-seconds", type=float, default=600, help="that one upload is read for (default 600)")
    parser.add_argument("--most-waiting", type=int, default=8, help="uploads that may wait (default 8)")
    parser.add_argument("--keep-minutes", type=float, default=30, help="until an upload is removed (default 30)")
    args = cli.parse(parser, argv)

    try:
        import uvicorn

        from jmer.serve.app import make_app
    except ModuleNotFoundError as error:
        raise UserError(f"the page needs {error.name}; install it with pip install 'jmer[demo]'") from error
    from jmer.serve.jobs import Jobs
    from jmer.serve.reader import Reader

    models = args.workdir or [args.model]
    reader = Reader(models, encoders=args.encoders, seconds=args.most_seconds)
    with tempfile.TemporaryDirectory(prefix="jmer-demo-") as folder:
        jobs = Jobs(reader, Path(folder), most=args.most_waiting, keep=60 * args.keep_minutes)
        app = make_app(
            jobs,
            model=", ".join(map(str, models)),
            most_bytes=args.most_megabytes << 20,
            seconds=args.most_seconds,
            hosts=(*_LOCAL, args.host, *args.name),
        )
        try:
            listening = _listen(args.host, args.port)
            _log.info(f"open http://{args.host}:{listening.getsockname()[1]} in a browser; Ctrl-C ends the page")
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", limit_concurrency=_MOST_CONNECTIONS))
            server.run(sockets=[listening])
        finally:
            jobs.close()
    return cli.EXIT_OK


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{host}:{port} cannot be listened on ({error}); give an address of this machine with --host, and a port "
            "that is free with --port"
        ) from error


if __name__ == "__main__":
    sys.exit(cli.run(main))
