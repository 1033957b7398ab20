"""Every served endpoint as a tool of an assistant, by Gradio's MCP server."""

__all__ = ["ready_tools"]

from importlib.util import find_spec

from ddpm_app.errors import UserError


def ready_tools() -> None:
    """Readies the MCP server for pages that are launched from now on; UserError without its package."""
    if find_spec("mcp") is None:
        raise UserError("--mcp needs the package mcp: pip install 'mcp>=1.21,<2'")
    from gradio.mcp import GradioMCPServer

    # its client has left the states out of an answer already; it would take out other values in their place
    GradioMCPServer.pop_returned_state = staticmethod(lambda components, data: data)  # type: ignore[method-assign]
