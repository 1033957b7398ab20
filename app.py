"""Starts the interactive DDPM paper: python app.py, then open the address it prints."""

import argparse
import gc
import os
import threading
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
gc.disable()  # nothing that is imported is garbage, and to look through it takes a seventh of the time

from ddpm_app.engine import Engine
from ddpm_app.errors import UserError
from ddpm_app.models import BUNDLED, DEFAULT_MODEL
from ddpm_app.ui import build_app, launch_options
from ddpm_app.ui.files import own_cache
from ddpm_app.ui.public import limits_of, may_train

gc.freeze()
gc.enable()


def main() -> None:
    """Flags, then the page, then the default model in the background."""
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter, description=__doc__
    )
    add, env = parser.add_argument, os.getenv
    add("--host", default=env("GRADIO_SERVER_NAME", "127.0.0.1"), help="to listen on; 0.0.0.0 for all")
    add("--port", type=int, default=env("GRADIO_SERVER_PORT", "7860"), help="the port to listen on")
    add("--share", action="store_true", help="also open a public link")
    add("--public", action="store_true", help="hold visitors to limits, as --share and a Space do")
    add("--auth", metavar="USER:PASSWORD", help="ask visitors for this; --host needs it for the Train tab")
    add("--model", default=DEFAULT_MODEL, help="a name, a folder or owner/repo on the Hub")
    add("--device", default="auto", help="auto, cpu, mps, cuda or cuda:0,cuda:1")
    add("--checkpoints", type=Path, default=BUNDLED, help="the folder of named models")
    add("--mcp", action="store_true", help="also serve every endpoint as a tool (MCP)")
    options = parser.parse_args()
    if options.auth and ":" not in options.auth:
        parser.error("--auth needs a name and a password as USER:PASSWORD")
    spare_the_proxy(options.host)
    try:
        engine = Engine(options.device, options.checkpoints, limits_of(options))
        if engine.limits.public:
            own_cache()
        demo = build_app(engine, options.model, training=may_train(options))
        threading.Thread(target=warm_up, args=(engine, options.model), daemon=True).start()
        demo.launch(
            server_name=options.host,
            server_port=options.port,
            share=options.share,
            auth=tuple(options.auth.split(":", 1)) if options.auth else None,
            **launch_options(public=engine.limits.public, tools=options.mcp),
        )
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    except (OSError, OverflowError):
        parser.exit(2, f"error: {options.host}:{options.port} cannot be listened on; give another --port\n")


def spare_the_proxy(host: str) -> None:
    """Takes this server out of what goes through a proxy, since Gradio asks it whether it is there."""
    spared = [os.getenv("no_proxy") or os.getenv("NO_PROXY"), "localhost", "127.0.0.1", host]
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, spared))


def warm_up(engine: Engine, model: str) -> None:
    """Readies the first model behind the page; what fails here is said when somebody uses it."""
    try:
        engine.model(model).settle()
    except UserError as error:
        print(f"note: {error}")


if __name__ == "__main__":
    main()
