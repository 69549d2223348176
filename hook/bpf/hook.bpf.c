/* One decision about each frame that comes in by a port (design D, docs/adr/0025): taken, that is rewritten and sent on
 * here; ours, that is hidden from the host's stack and given to UVS's rings; or not ours, and then untouched.
 *
 * What is ours gets a bit of the mark and an EtherType that the stack does not know; a packet socket asks for it.
 * Only the client's SYN and what is unusual goes up of a connection; the rest is forwarded with its state, time and
 * sequence numbers kept as the engine would.
 *
 * Built by `make bpf`; hook.bpf.o, which is committed, is this.
 */
#include "forward.h"
#include "rules.h"

#define LOOPBACK 1
/* What is ours gets this EtherType (layout.rs), and an identifier that no VLAN may have (IEEE 802.1Q, table 9-2). */
#define HIDDEN ETH_P_8021AD
#define NO_VLAN 0xfff

INLINE int leave(struct __sk_buff *skb, const struct control *c)
{
	if (skb->mark & c->ours_mark)
		skb->mark &= ~c->ours_mark;
	return TC_ACT_UNSPEC;
}

/* Whether the daemon has been silent for too long. A turn's clock may be a little ahead of this one. It is looked at
 * when something would be ours: what is foreign does not pay for the clock.
 */
INLINE int is_stale(const struct control *c, u64 now)
{
	return now > c->heartbeat && now - c->heartbeat > c->stale_after;
}

/* Hides a frame from the stack behind two VLAN tags. The inner one lies in the frame, so that its EtherType is one that
 * nothing but the rings asks for. The outer one, of a VLAN that nobody can have, the kernel takes off again, and takes
 * the frame for another host's.
 */
INLINE int hide(struct __sk_buff *skb, const struct control *c)
{
	u32 len = skb->len;
	skb->mark |= c->ours_mark;
	if (bpf_skb_vlan_push(skb, swap16(HIDDEN), NO_VLAN) || bpf_skb_vlan_push(skb, swap16(HIDDEN), NO_VLAN)) {
		count(skb, CELL_LOST, len);
		return TC_ACT_SHOT;
	}
	return TC_ACT_OK;
}

/* Gives a frame to the rings. A super-frame that a virtio_net_hdr cannot describe would stop the ring. */
INLINE int take(struct __sk_buff *skb, const struct control *c, const struct packet *p, u32 why)
{
	u32 len = skb->len;
	if (skb->gso_size && (p->protocol == IPPROTO_SCTP ||
			      (p->protocol == IPPROTO_UDP && c->flags & CONTROL_NO_UDP_GSO))) {
		count(skb, CELL_GSO, len);
		return TC_ACT_SHOT;
	}
	int action = hide(skb, c);
	if (action == TC_ACT_OK)
		count(skb, why, len);
	return action;
}

/* Why a frame is ours that is not forwarded here, 0 = it is not. */
INLINE u32 judge(struct __sk_buff *skb, const struct control *c, struct packet *p, u64 target)
{
	u64 to = flags_of(p->dst);
	if (to & ADDRESS_OWNED)
		return UP_OWNED;
	if (p->kind == KIND_FRAGMENT)
		return match_fragment(p);
	if (p->kind == KIND_ICMP)
		return p->first ? 0 : match_error(skb, p);
	u64 from = flags_of(p->src);
	u32 why = 0;
	if (p->kind == KIND_TRANSPORT) {
		why = target ? UP_KNOWN : match(c, p->src, p->dst, p->ports, p->protocol, to, from);
	} else if (is_hidden(p) && concerns(to, from)) {
		why = UP_OPTIONS;
	}
	if (p->first && (why || to || from))
		remember_fragment(p, why);
	return why && p->why ? p->why : why;
}

/* Neighbour discovery to many: a question about an owned VIP, or another's claim to it, is the engine's (RFC 4861 4.3,
 * 4.4). The host has no such address, and misses nothing.
 */
INLINE int discovery(struct __sk_buff *skb, const struct control *c)
{
	struct packet p = {};
	u64 word = 0, target[2] = {};
	parse6(skb, &p);
	if (p.kind != KIND_ICMP || p.first || bpf_skb_load_bytes(skb, p.l4, &word, 8) ||
	    bpf_skb_load_bytes(skb, p.l4 + 8, target, 16))
		return leave(skb, c);
	u64 type = word & 0xff;
	if ((type != ND_SOLICITATION && type != ND_ADVERTISEMENT) || !(flags_of(target) & ADDRESS_OWNED))
		return leave(skb, c);
	return is_stale(c, bpf_ktime_get_ns()) ? leave(skb, c) : take(skb, c, &p, UP_OWNED);
}

/* What a program can do: tell what is ours; forward what changes no state; forward everything. */
enum reach { GUARD, ESTABLISHED, EVERYTHING };

INLINE int decide(struct __sk_buff *skb, enum reach reach)
{
	u64 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	if (!c)
		return TC_ACT_UNSPEC;
	if (c->host_mark && skb->mark == c->host_mark) {
		skb->mark = 0;
		return TC_ACT_UNSPEC;
	}
	if (skb->pkt_type == PACKET_MULTICAST && !skb->vlan_present && skb->protocol == swap16(ETH_P_IPV6))
		return discovery(skb, c);
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present) {
		/* What `egress` has sent there is ours already. */
		if (skb->ifindex == LOOPBACK && skb->pkt_type == PACKET_OTHERHOST && skb->mark & c->ours_mark)
			return hide(skb, c);
		return leave(skb, c);
	}
	struct packet p = {};
	if (skb->protocol == swap16(ETH_P_IP))
		parse4(skb, &p);
	else if (skb->protocol == swap16(ETH_P_IPV6))
		parse6(skb, &p);
	if (p.kind == KIND_FOREIGN)
		return leave(skb, c);
	u64 target = p.kind == KIND_TRANSPORT ? find_flow(&p) : 0;
	u32 why = target ? UP_KNOWN : 0;
	if (reach != GUARD && target && !p.first) {
		/* The last tick, a few milliseconds ago, costs a fifth of the time (Linux 5.11). */
		u64 now = reach == EVERYTHING ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();
		if (is_stale(c, now))
			return leave(skb, c);
		int action = TC_ACT_SHOT;
		why = forward(skb, c, &p, target, now, &action, reach == EVERYTHING);
		if (!why) {
			leave(skb, c);
			return action;
		}
	}
	if (!why || p.first)
		why = judge(skb, c, &p, target);
	if (!why || is_stale(c, bpf_ktime_get_ns()))
		return leave(skb, c);
	return take(skb, c, &p, why);
}

SEC("everything") int uvs_everything(struct __sk_buff *skb)
{
	return decide(skb, EVERYTHING);
}

/* For kernels whose programs have neither compare-and-swap nor ring buffers. */
SEC("established") int uvs_established(struct __sk_buff *skb)
{
	return decide(skb, ESTABLISHED);
}

SEC("guard") int uvs_guard(struct __sk_buff *skb)
{
	return decide(skb, GUARD);
}

/* At the way out: what a server on the host itself replies goes back in by `lo`, to the ring there. */
SEC("egress") int uvs_egress(struct __sk_buff *skb)
{
	u64 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	u64 now = bpf_ktime_get_ns();
	if (!c || (c->host_mark && skb->mark == c->host_mark) || is_stale(c, now))
		return TC_ACT_UNSPEC;
	struct packet p = {};
	if (skb->protocol == swap16(ETH_P_IP))
		parse4(skb, &p);
	else if (skb->protocol == swap16(ETH_P_IPV6))
		parse6(skb, &p);
	if (p.kind != KIND_TRANSPORT || !find_flow(&p))
		return TC_ACT_UNSPEC;
	skb->mark |= c->ours_mark;
	return bpf_redirect(LOOPBACK, BPF_F_INGRESS);
}

/* Takes out the flows of connections that have ended. A flow may lead to a newer connection by now, which stays. */
SEC("remove") int uvs_remove(void *unused)
{
	(void)unused;
	u64 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	if (!c)
		return 0;
	/* Linux 6.1's verifier takes a loop whose counter is spilled for an endless one. */
#pragma clang loop unroll(full)
	for (u64 i = 0; i < REMOVALS; i++) {
		if (i >= c->removals)
			break;
		u64 at = i;
		struct removal *r = bpf_map_lookup_elem(&removals, &at);
		if (!r)
			break;
		if (r->src[0] == 0 && (u32)r->src[1] == 0xffff0000) {
			struct key4 key = { r->src[1] >> 32 | (r->dst[1] >> 32) << 32, r->rest };
			u64 *found = bpf_map_lookup_elem(&flows4, &key);
			if (found && *found == r->target)
				bpf_map_delete_elem(&flows4, &key);
		} else {
			struct key6 key = { { r->src[0], r->src[1] }, { r->dst[0], r->dst[1] }, r->rest };
			u64 *found = bpf_map_lookup_elem(&flows6, &key);
			if (found && *found == r->target)
				bpf_map_delete_elem(&flows6, &key);
		}
	}
	return 0;
}

char LICENSE[] SEC("license") = "MIT OR Apache-2.0";
