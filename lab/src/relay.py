"""Carries frames between a host's interface and a veth pair of its own, and on purpose not all of them, not once and not in
order: `relay.py OUTSIDE INSIDE SEED LOST TWICE LATE`, the last three in a thousand TCP and UDP packets. What a SIGTERM gets
printed is how many of each there were.

Frames go with their virtio_net_hdr, since checksums may be unfinished and super-frames uncut.
"""

import heapq
import random
import select
import signal
import socket
import sys
import time

SOL_PACKET, VNET_HDR, IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3
VNET_LEN, ETHERNET = 10, 14
# Seconds that a late frame is late at most.
LATEST = 0.008

outside, inside, seed, lost, twice, late = sys.argv[1:3] + [int(word) for word in sys.argv[3:7]]
chance = random.Random(seed)
counts = {"passed": 0, "lost": 0, "twice": 0, "late": 0, "unsent": 0}


def packet_socket(interface):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    s.setsockopt(SOL_PACKET, VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    s.bind((interface, ETH_P_ALL))
    return s


def is_transport(frame):
    """Whether it is TCP's or UDP's: neighbours are found without losses."""
    kind = frame[VNET_LEN + 12 : VNET_LEN + 14]
    ip = VNET_LEN + ETHERNET
    if kind == b"\x08\x00":
        return frame[ip + 9] in (6, 17)
    return kind == b"\x86\xdd" and frame[ip + 6] in (6, 17)


def put(to, frame):
    try:
        to.send(frame)
        counts["passed"] += 1
    except OSError:
        counts["unsent"] += 1


def end(*_):
    print(" ".join(f"{name} {n}" for name, n in counts.items()), flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
ends = [packet_socket(outside), packet_socket(inside)]
other = {ends[0]: ends[1], ends[1]: ends[0]}
waiting, number = [], 0
print("ready", flush=True)
while True:
    now = time.monotonic()
    while waiting and waiting[0][0] <= now:
        _, _, to, frame = heapq.heappop(waiting)
        put(to, frame)
    patience = max(0, waiting[0][0] - now) if waiting else None
    for came in select.select(ends, [], [], patience)[0]:
        frame, to = came.recv(1 << 17), other[came]
        if not is_transport(frame):
            put(to, frame)
            continue
        if chance.randrange(1000) < lost:
            counts["lost"] += 1
            continue
        copies = 1
        if chance.randrange(1000) < twice:
            counts["twice"] += 1
            copies = 2
        for _ in range(copies):
            if chance.randrange(1000) < late:
                counts["late"] += 1
                number += 1
                heapq.heappush(waiting, (time.monotonic() + chance.random() * LATEST, number, to, frame))
            else:
                put(to, frame)
