"""What does the transport alone cost? A server of the daemon's gRPC library that answers each message and looks at none.

python -m tests.bench.echo SOCKET
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

STREAM = "/appstats.v1.SessionReportService/StreamReports"
ANSWER = b"\x08\x80\x80\x01"  # as many bytes as an acknowledgement has


class Echo(grpc.GenericRpcHandler):
    """Bytes in, bytes out, as the daemon's own handler does it."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return grpc.stream_stream_rpc_method_handler(self._stream) if call.method == STREAM else None

    async def _stream(self, messages: Any, context: Any) -> None:
        while isinstance(await context.read(), bytes):
            await context.write(ANSWER)


async def serve(socket: str) -> None:
    server = grpc.aio.server(handlers=(Echo(),), options=(("grpc.max_receive_message_length", 8 << 20),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
