/* What the program and the loader share: the maps and what is in them. `hook/src/layout.rs` is the same in Rust.
 *
 * Rules that Linux 6.1's verifier sets without CAP_PERFMON, and that all of this code keeps:
 *  - on the stack only whole 64-bit words are stored, so map keys of 32 bits are words too (little endian), and
 *    the compiler may know no 32-bit registers, which it would spill as halves (-mcpu=v2; it has compare-and-swap);
 *  - a pointer into a map's value has a constant offset: what is picked by a number is an element of its own.
 */
#ifndef UVS_LAYOUT_H
#define UVS_LAYOUT_H

#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline

/* A map is created by the loader; what is here gives relocations its name. */
struct map {
	u32 unused;
};
#define MAP(name) struct map name SEC("maps")

/* One element: what holds for everything. */
struct control {
	u64 heartbeat;   /* CLOCK_MONOTONIC, ns, written by the daemon */
	u64 stale_after; /* ns without a heartbeat until nothing is ours any more */
	u32 ours_mark;   /* the bit of a mark that says ours */
	u32 host_mark;   /* what the daemon sends into the host's stack has, 0 = nothing does */
	u32 flags;       /* CONTROL_* */
	u32 ways;        /* the generation of all ways */
	u32 first_port;  /* FULLNAT's local ports, host byte order; none where the first is above the last */
	u32 last_port;
	u64 ip_id; /* identification of the last outer header that has one */
	u64 events_lost;
	u64 removals; /* how many of them are to be taken out */
	u64 version; /* the daemon's, of all of this */
};
#define CONTROL_STRICT 1     /* secure_tcp's states */
#define CONTROL_NETWORKS 2   /* there are networks or ranges among the rules */
#define CONTROL_NO_UDP_GSO 4 /* virtio_net_hdr cannot say UDP_L4 here (Linux before 6.2) */
MAP(control);

/* Flow -> cell << 1 | direction, low half of the birth << 32. */
struct key4 {
	u64 addresses; /* source, destination << 32 */
	u64 rest;      /* ports as in the header, protocol << 32 */
};
struct key6 {
	u64 src[2];
	u64 dst[2];
	u64 rest;
};
MAP(flows4);
MAP(flows6);

/* Cell -> connection: all of one that frames change, in one cache line. */
struct conn {
	u64 word; /* state, FLAG_* << 8, low half of the birth << 32; the program changes it by compare-and-swap only */
	u64 birth;
	u64 last_seen; /* CLOCK_MONOTONIC, ns; to the tick */
	u64 answered;  /* when the server's SYN-ACK came, 0 = not yet */
	u32 server;
	u32 generation;
	u32 ways;
	u32 client_packets;
	u64 keys; /* the daemon's: which keys lead here */
	u32 server_expects; /* the sequence number that it expects next, 0 = unknown */
	u32 client_expects;
};
#define FLAG_NO_OUTPUT 0x01 /* nothing has come from the server (IP_VS_CONN_F_NOOUTPUT) */
#define FLAG_PROVEN 0x02    /* it has become established here, or was answered */
#define FLAG_UP 0x04        /* its frames go to the engine */
#define FLAG_TELLS 0x08     /* an event when it is proven */
#define FLAG_OPENING 0x10   /* FULLNAT: what answers the SYN and is no SYN-ACK is the engine's */
#define FLAG_COUNTS 0x20    /* its own packets and bytes are counted */
MAP(conns);

/* Cell * 2 + direction -> what becomes of its frames, which change nothing of it but `port`. */
struct leg {
	u64 src[2]; /* what a frame gets, or its outer header */
	u64 dst[2];
	u32 ports;     /* as in the header */
	u32 addresses; /* what the addresses change in a checksum */
	u32 port_sum;  /* what the ports do */
	u32 hop;
	u32 arrival; /* the interface that it must come by, 0 = any */
	u32 kind;    /* LEG_*; 0 = its frames go to the engine */
	u64 port;    /* the interface that the last one came by, its place among the cells << 32; 0 = unknown */
};
#define LEG_PLAIN 1     /* MAC addresses alone */
#define LEG_TRANSLATE 2 /* addresses and ports */
#define LEG_WRAP4 3     /* an outer IPv4 header */
#define LEG_WRAP6 4     /* an outer IPv6 header */
#define LEG_KIND 0xff
#define LEG_COPY_DF 0x100
MAP(legs);

/* A next hop; largest packet 0 = not now. */
struct hop {
	u8 macs[12]; /* destination, source */
	u32 ifindex;
	u32 mtu;
	u32 unused;
};
MAP(hops);

/* Server's cell -> its generation, and what only the daemon reads. */
struct server {
	u64 generation;
	u64 names[15];
};
MAP(servers);

/* Server's cell * 2 + direction, per CPU. */
struct total {
	u64 packets;
	u64 bytes;
};
MAP(totals);

/* Cell * 2 + direction -> the same of one connection that FLAG_COUNTS asks it of; CPUs share it. */
MAP(counted);

/* Interface -> its place among the cells; place * CELLS + CELL_* or UP_*, per CPU. */
#define CELLS 32
#define CELL_FORWARDED 0
#define CELL_LOST 1 /* could not be changed: no memory */
#define CELL_GSO 2  /* a super-frame that a ring cannot describe */
MAP(ports);
MAP(cells);

/* Why a frame goes to the engine. */
#define UP_SERVICE 3   /* to a service, of no known connection */
#define UP_KNOWN 4     /* of a connection that is only known, or has just ended */
#define UP_OWNED 5     /* to an address that UVS owns */
#define UP_SERVER 6    /* from a server whose packets of no connection are UVS's too */
#define UP_ICMP 7      /* an ICMP error about a packet of UVS's */
#define UP_FRAGMENT 8
#define UP_SYN 9
#define UP_OPTIONS 10
#define UP_TTL 11
#define UP_TOO_LARGE 12
#define UP_STALE 13    /* its server or the ways have changed */
#define UP_ASKED 14    /* the engine wants to see it */
#define UP_HOP 15      /* the next hop is not known */
#define UP_ARRIVAL 16  /* it came by another interface than those before */
#define UP_WINDOW 17   /* it ends its connection, but its number is not that connection's */
#define UP_REOPEN 18   /* FULLNAT: the server knows an old connection */
#define UP_CHECKSUM 19 /* UDP without a checksum, which NAT gives it one */
#define UP_MALFORMED 20
#define UP_BUSY 21     /* its state was changed elsewhere at the same time */
#define UP_STATE 22    /* its state would change, which the kernel's programs cannot do */
#define UP_REFUSED 23  /* the server answers a SYN with a RST */

/* ((strict * 3 + direction) * 5 + event) * 11 + state -> next state, and MOVE_*. */
#define STATES 11
#define EVENTS 5
#define STATE_SYN_RECV 3
#define MOVE_SYNCHRONIZED 0x100 /* from a state in which both ends know their numbers */
#define MOVE_TOLD 0x200         /* it counts otherwise now */
#define MOVE_PROVEN 0x400       /* it has become established */
MAP(states);

/* What the engine should look at. */
struct event {
	u64 birth;
	u64 cell;
};
MAP(events);

/* Flows to be taken out, where they still lead to `target`; how many is in `control`. */
struct removal {
	u64 src[2];
	u64 dst[2];
	u64 rest;
	u64 target;
};
#define REMOVALS 32
MAP(removals);

/* Rules: address, port (as in the header), protocol << 16, RULE_* << 24 -> 1. */
struct rule {
	u64 addr[2];
	u64 rest;
};
#define RULE_TO 1      /* to this address and port */
#define RULE_FULLNAT 2 /* from this one, to a local address and port */
#define RULE_STRAY 3   /* from this one, beyond the host */
#define RULE_TUNNEL 4  /* a tunnel's end */
#define RULE_WHOLE 5   /* from this one */
MAP(rules);

/* Address -> ADDRESS_*. */
#define ADDRESS_TO 0x01      /* it has RULE_TO */
#define ADDRESS_OWNED 0x02   /* everything to it is ours */
#define ADDRESS_FTP 0x04     /* passive and active FTP's data ports too */
#define ADDRESS_RANGES 0x08  /* it has ranges of its own among the networks */
#define ADDRESS_LOCAL 0x10   /* the host's own */
#define ADDRESS_FULLNAT 0x20 /* one of FULLNAT's local addresses */
#define ADDRESS_FROM 0x40    /* it has RULE_FULLNAT, RULE_STRAY or RULE_WHOLE */
#define ADDRESS_SERVER 0x80  /* servers reply from it by way of the director */
MAP(addresses);

/* Longest prefix -> its ranges and those of all prefixes around it. */
#define RANGES 16
struct network {
	u64 ranges[RANGES]; /* first port, last port << 16, protocol << 32; 0 = no more */
};
MAP(networks);

/* A datagram in fragments -> when its first was seen (ns) << 1, and whether it is ours. */
struct datagram {
	u64 src[2];
	u64 dst[2];
	u64 rest; /* identification, protocol << 32 */
};
MAP(fragments);

#endif
