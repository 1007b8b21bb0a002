"""Drives real HTTP and WebSocket traffic through the example proxy, as a few users of a few workspaces would.

    python traffic.py --proxy http://127.0.0.1:8080 --seconds 20

Prints what it did as one line of JSON: the counts are what the sessions in the database have to add up to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from itertools import cycle
from uuid import NAMESPACE_DNS, UUID, uuid5

from aiohttp import ClientSession, ClientTimeout, WSMsgType

PAGES = (
    ("", "/apps/code/"),
    ("", "/apps/code/page/editor"),
    ("jupyter.apps.example", "/page/notebook"),
    ("", "/apps/code/redirect"),
    ("", "/apps/code/missing"),
)
"""Host (empty: the proxy's own) and path."""
SOCKETS = ("/apps/code/socket", "/apps/jupyter/socket", "/terminal")
KINDS = {200: "pages", 302: "redirects", 404: "missing"}
PAUSE_SECONDS = 0.2


def named(kind: str, number: int) -> UUID:
    """The same id for the same name, so that runs can be compared."""
    return uuid5(NAMESPACE_DNS, f"{kind}-{number}.example")


def headers_of(user: int, workspace: int) -> dict[str, str]:
    """What whatever authenticates in front of the proxy would set."""
    ids = {"User": named("user", user), "Workspace": named("workspace", workspace), "Agent": named("agent", workspace)}
    return {f"X-{name}-Id": str(value) for name, value in ids.items()}


class Traffic:
    """What the users do until the time is up, and what of it was done. Nothing is cut off in the middle."""

    def __init__(self, http: ClientSession, seconds: float) -> None:
        """The time runs from here, inside a loop."""
        self._http = http
        self._until = asyncio.get_running_loop().time() + seconds
        self.done: Counter[str] = Counter()

    def goes_on(self) -> bool:
        """Whether there is time left."""
        return asyncio.get_running_loop().time() < self._until

    async def browse(self, user: int, workspace: int) -> None:
        """Looks at one page after another."""
        for host, path in cycle(PAGES):
            if not self.goes_on():
                return
            headers = headers_of(user, workspace) | ({"Host": host} if host else {})
            async with self._http.get(path, headers=headers, allow_redirects=False) as answer:
                await answer.read()
            self.done[KINDS[answer.status]] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def talk(self, user: int, workspace: int) -> None:
        """Keeps one WebSocket open for a while, then the next."""
        for path in cycle(SOCKETS):
            if not self.goes_on():
                return
            async with self._http.ws_connect(path, headers=headers_of(user, workspace)) as socket:
                self.done["websockets"] += 1
                for number in range(3 * (user + 1)):
                    await socket.send_str(f"message {number}")
                    answer = await socket.receive()
                    if answer.type is not WSMsgType.TEXT:
                        raise ConnectionError(f"the WebSocket {path} ended with {answer.type.name}")
                    self.done["messages"] += 1
                    await asyncio.sleep(PAUSE_SECONDS)
                    if not self.goes_on():
                        break


async def drive(proxy: str, seconds: float, users: int, workspaces: int) -> Counter[str]:
    """Lets the users work for that long; returns how many pages, redirects, 404s, WebSockets and messages there were.

    Raises whatever a request raises: traffic that fails is no traffic.
    """
    async with ClientSession(proxy, timeout=ClientTimeout(total=30)) as http:
        traffic = Traffic(http, seconds)
        async with asyncio.TaskGroup() as work:
            for user in range(users):
                work.create_task(traffic.browse(user, user % workspaces))
                work.create_task(traffic.talk(user, (user + 1) % workspaces))
    return traffic.done


def main() -> None:
    """Runs the traffic and prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--proxy", default="http://127.0.0.1:8080", help="where the proxy listens (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="how long (default: %(default)s)")
    parser.add_argument("--users", type=int, default=4, help="how many users (default: %(default)s)")
    parser.add_argument("--workspaces", type=int, default=2, help="how many workspaces (default: %(default)s)")
    options = parser.parse_args()
    done = asyncio.run(drive(options.proxy, options.seconds, options.users, options.workspaces))
    json.dump(done, sys.stdout, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
