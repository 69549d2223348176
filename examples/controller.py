#!/usr/bin/env python3
"""Keeps the real servers of a service as a file says, by the daemon's JSON API (docs/api.md).

    controller.py [--once] tcp:192.0.2.1:80 servers.json
    controller.py --changes

servers.json names each server with its weight, and says how packets reach them:

    {"forwarding": "nat", "servers": {"10.0.0.11:80": 3, "10.0.0.12:80": 1}}

The service must be there. All that is to change is changed as one step. A server that the file does not name any more is
drained first, and removed when none of its connections is open; without --once the file is looked at again every second.
--changes follows what anybody changes instead. The socket is $UVS_SOCKET, or /run/uvs/control.sock.
"""

import argparse
import json
import os
import socket
import sys
import time

VERSION = 1


class Refused(Exception):
    """The daemon said no, and changed nothing."""


class Uvs:
    """A connection to the daemon."""

    def __init__(self, path=None):
        path = path or os.environ.get("UVS_SOCKET") or "/run/uvs/control.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.last_id = 0

    def parts(self, command):
        """Asks, and yields what is answered: one part, or of a long listing several."""
        self.last_id += 1
        request = {"version": VERSION, "id": self.last_id, "command": command}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        while True:
            line = self.lines.readline()
            if not line:
                raise ConnectionError("the daemon has hung up")
            reply = json.loads(line)
            if "Err" in reply["result"]:
                raise Refused(reply["result"]["Err"]["message"])
            yield reply["result"]["Ok"]
            if not reply.get("more"):
                return

    def ask(self, command):
        """Asks for what comes in one part."""
        (answer,) = self.parts(command)
        return answer


def endpoint(text):
    """10.0.0.1:80 or [2001:db8::1]:80"""
    addr, _, port = text.rpartition(":")
    if not addr or not port.isdecimal():
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return {"addr": addr.strip("[]"), "port": int(port)}


def shown(at):
    addr = f"[{at['addr']}]" if ":" in at["addr"] else at["addr"]
    return f"{addr}:{at['port']}"


def service_key(text):
    """tcp:192.0.2.1:80"""
    protocol, _, vip = text.partition(":")
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"{text!r} does not begin with tcp:, udp: or sctp:")
    return {"address": {"protocol": protocol, **endpoint(vip)}}


def wanted(path):
    """What the file says: servers as they are to be, by address."""
    with open(path, encoding="utf-8") as file:
        said = json.load(file)
    return {
        shown(endpoint(at)): {
            "endpoint": endpoint(at),
            "forwarding": said.get("forwarding", "nat"),
            "weight": weight,
        }
        for at, weight in said["servers"].items()
    }


def plan(key, now, then):
    """The changes that lead from the servers that there are to those that there are to be."""
    changes = []
    for at, server in then.items():
        known = now.get(at)
        if known is None:
            changes.append({"add_server": [key, server]})
        elif known["spec"]["weight"] != server["weight"]:
            changes.append({"set_weight": [key, server["endpoint"], server["weight"]]})
    for at, known in now.items():
        if at in then:
            continue
        place = known["spec"]["endpoint"]
        if known["open"] == 0:
            changes.append({"delete_server": [key, place]})
        elif known["spec"]["weight"] != 0:
            changes.append({"set_weight": [key, place, 0]})
    return changes


def servers(uvs, key):
    (service,) = uvs.ask({"list_services": key})["services"]["services"]
    return {shown(server["spec"]["endpoint"]): server for server in service["servers"]}


def reconcile(uvs, key, path):
    """One round; whether there is nothing left to do but for what drains."""
    now, then = servers(uvs, key), wanted(path)
    changes = plan(key, now, then)
    if changes:
        uvs.ask({"transaction": changes})
        for change in changes:
            print(json.dumps(change), flush=True)
    return not changes


def follow(uvs):
    """Prints what anybody changes."""
    place = 0
    while True:
        told = uvs.ask({"list_changes": place})["changes"]
        for change in told["changes"]:
            refused = "refused: " if change["refused"] else ""
            print(f"{refused}{change['what']}, by {change['by']}", flush=True)
        place = told["next"]
        time.sleep(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="one round, and an end")
    parser.add_argument("--changes", action="store_true", help="follow what anybody changes")
    parser.add_argument("service", nargs="?", help="tcp:VIP:PORT")
    parser.add_argument("file", nargs="?", help="the servers, as JSON")
    args = parser.parse_args()
    try:
        uvs = Uvs()
        if args.changes:
            follow(uvs)
        if not args.service or not args.file:
            parser.error("say which service, and which file")
        key = service_key(args.service)
        while True:
            reconcile(uvs, key, args.file)
            if args.once:
                return 0
            time.sleep(1)
    except KeyboardInterrupt:
        return 0
    except (Refused, ValueError, KeyError, OSError) as error:
        print(f"controller: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
